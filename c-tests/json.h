/*
 * A small JSON reader for the tests: a tree of nodes, each with the place of its text, so that a part of a document can be
 * passed on as it stands.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef GRATE_TEST_JSON_H
#define GRATE_TEST_JSON_H

#include <stddef.h>
#include <stdint.h>

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } json_type;

typedef struct json {
    json_type type;
    char *key;          /* of a member of an object, else NULL */
    char *string;       /* of a string, decoded */
    double number;      /* of a number */
    struct json *child; /* first element or member */
    struct json *next;  /* sibling */
    const char *text;   /* where it stands in the document */
    size_t length;
} json;

/* Reads a document, which must outlive the tree. NULL if it is malformed; then *error is where. */
json *json_parse(const char *text, const char **error);
void json_free(json *node);

/* The member of an object, or NULL. */
const json *json_get(const json *object, const char *key);
/* The decoded string of a node; NULL if it is none. */
const char *json_string(const json *node);
/* Whether a node is a whole number that fits; then *out is it. */
int json_u64(const json *node, uint64_t *out);

#endif
