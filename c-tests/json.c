/* See json.h. SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *at;
    int failed;
} reader;

static json *value(reader *r);

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void skip_space(reader *r)
{
    while (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t') {
        r->at++;
    }
}

static int take(reader *r, char c)
{
    skip_space(r);
    if (*r->at != c) {
        return 0;
    }
    r->at++;
    return 1;
}

static char *put_utf8(char *to, unsigned long c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xC0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *to++ = (char)(0xE0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    } else {
        *to++ = (char)(0xF0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3F));
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    }
    return to;
}

static unsigned long hex4(reader *r)
{
    char digits[5] = {0};
    int i;
    for (i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)*r->at)) {
            r->failed = 1;
            return 0;
        }
        digits[i] = *r->at++;
    }
    return strtoul(digits, NULL, 16);
}

/* After the opening quote. The decoded text is never longer than the encoded. */
static char *string(reader *r)
{
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    size_t room = 1;
    const char *end = r->at;
    char *text, *to;
    while (*end != '"' && *end != '\0') {
        end += *end == '\\' && end[1] != '\0' ? 2 : 1;
    }
    room += (size_t)(end - r->at);
    to = text = allocate(room);
    while (!r->failed && *r->at != '"') {
        const char *escape;
        if ((unsigned char)*r->at < 0x20) {
            r->failed = 1;
        } else if (*r->at != '\\') {
            *to++ = *r->at++;
        } else if (r->at[1] == 'u') {
            unsigned long c;
            r->at += 2;
            c = hex4(r);
            if (c >= 0xD800 && c < 0xDC00 && r->at[0] == '\\' && r->at[1] == 'u') {
                r->at += 2;
                c = 0x10000 + ((c - 0xD800) << 10) + (hex4(r) - 0xDC00);
            }
            to = put_utf8(to, c);
        } else if (r->at[1] != '\0' && (escape = strchr(escapes, r->at[1])) != NULL) {
            *to++ = meanings[escape - escapes];
            r->at += 2;
        } else {
            r->failed = 1;
        }
    }
    if (!r->failed) {
        r->at++;
    }
    return text;
}

static void children(reader *r, json *node, char close)
{
    json **last = &node->child;
    if (take(r, close)) {
        return;
    }
    do {
        char *key = NULL;
        if (node->type == JSON_OBJECT) {
            if (!take(r, '"')) {
                r->failed = 1;
                return;
            }
            key = string(r);
            if (r->failed || !take(r, ':')) {
                free(key);
                r->failed = 1;
                return;
            }
        }
        *last = value(r);
        (*last)->key = key;
        last = &(*last)->next;
    } while (!r->failed && take(r, ','));
    if (!r->failed && !take(r, close)) {
        r->failed = 1;
    }
}

static json *value(reader *r)
{
    static const struct {
        const char *word;
        json_type type;
    } words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
    json *node = allocate(sizeof *node);
    size_t i;
    skip_space(r);
    node->text = r->at;
    if (*r->at == '{') {
        r->at++;
        node->type = JSON_OBJECT;
        children(r, node, '}');
    } else if (*r->at == '[') {
        r->at++;
        node->type = JSON_ARRAY;
        children(r, node, ']');
    } else if (*r->at == '"') {
        r->at++;
        node->type = JSON_STRING;
        node->string = string(r);
    } else if (*r->at == '-' || isdigit((unsigned char)*r->at)) {
        char *end;
        node->type = JSON_NUMBER;
        node->number = strtod(r->at, &end);
        r->failed |= end == r->at;
        r->at = end;
    } else {
        r->failed = 1;
        for (i = 0; i < sizeof words / sizeof words[0]; i++) {
            size_t length = strlen(words[i].word);
            if (strncmp(r->at, words[i].word, length) == 0) {
                node->type = words[i].type;
                r->at += length;
                r->failed = 0;
                break;
            }
        }
    }
    node->length = (size_t)(r->at - node->text);
    return node;
}

json *json_parse(const char *text, const char **error)
{
    reader r = {text, 0};
    json *root = value(&r);
    skip_space(&r);
    if (r.failed || *r.at != '\0') {
        *error = r.at;
        json_free(root);
        return NULL;
    }
    return root;
}

void json_free(json *node)
{
    while (node != NULL) {
        json *next = node->next;
        json_free(node->child);
        free(node->key);
        free(node->string);
        free(node);
        node = next;
    }
}

const json *json_get(const json *object, const char *key)
{
    const json *member;
    for (member = object != NULL ? object->child : NULL; member != NULL; member = member->next) {
        if (member->key != NULL && strcmp(member->key, key) == 0) {
            return member;
        }
    }
    return NULL;
}

const char *json_string(const json *node)
{
    return node != NULL && node->type == JSON_STRING ? node->string : NULL;
}

int json_u64(const json *node, uint64_t *out)
{
    char *end;
    if (node == NULL || node->type != JSON_NUMBER || node->text[0] == '-') {
        return 0;
    }
    errno = 0;
    *out = strtoull(node->text, &end, 10);
    return errno == 0 && end == node->text + node->length;
}
