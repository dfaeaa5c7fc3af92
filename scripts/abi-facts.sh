#!/bin/sh
# Prints what a program relies on once it is compiled with a header like include/grate.h, one fact a line:
#
#   constant NAME = VALUE                        typedef ...
#   struct NAME: N bytes                         function ...
#   field STRUCT.NAME at OFFSET, N bytes: TYPE
#
#   scripts/abi-facts.sh HEADER
#
# Only structs that cannot grow, those without struct_size, have a size here. From the environment: CC.
set -eu

header=${1:?usage: scripts/abi-facts.sh HEADER}
work=$(mktemp -d "${TMPDIR:-/tmp}/grate-abi.XXXXXX")
trap 'rm -rf "$work"' EXIT

# A program that prints them: the compiler knows values and offsets, the text names and types.
awk '
    function trim(text) { gsub(/[ \t]+/, " ", text); sub(/^ /, "", text); sub(/ ?;?$/, "", text); return text }
    function print_line(format, values) { printf "    printf(\"%s\\n\"%s);\n", format, values }
    function field(text,   name, type) {
        match(text, /[A-Za-z_][A-Za-z_0-9]*(\[[A-Za-z_0-9]*\])?$/)
        name = substr(text, RSTART); type = trim(substr(text, 1, RSTART - 1))
        if (match(name, /\[/)) { type = type " " substr(name, RSTART); name = substr(name, 1, RSTART - 1) }
        print_line("field " structure "." name " at %zu, %zu bytes: " type, \
            ", offsetof(" structure ", " name "), sizeof((" structure " *)0)->" name)
    }
    BEGIN { print "#include <stdio.h>\n#include <stddef.h>\n#include HEADER\nint main(void)\n{" }
    /^[ \t]*\/\*/ { comment = 1 }
    comment { if (/\*\/[ \t]*$/) comment = 0; next }
    /^#define GRATE_[A-Z0-9_]+ / && $2 !~ /_INIT$/ {
        print_line("constant " $2 " = %llu", ", (unsigned long long)(" $2 ")")
    }
    /^#/ || /^extern "C"/ || /^}  \/\/ extern/ || /^[ \t]*$/ { next }
    /^typedef struct( [a-z_]+)? \{$/ { n = 0; inside = 1; next }
    inside && /^}/ {
        inside = 0; structure = trim(substr($0, 2)); grows = 0
        for (i = 1; i <= n; i++) if (fields[i] == "uint32_t struct_size") grows = 1
        if (!grows) print_line("struct " structure ": %zu bytes", ", sizeof(" structure ")")
        for (i = 1; i <= n; i++) field(fields[i])
        next
    }
    { statement = statement " " $0 }
    !/;[ \t]*$/ { next }
    {
        statement = trim(statement)
        if (inside) fields[++n] = statement
        else print_line((statement ~ /^typedef/ ? "" : "function ") statement, "")
        statement = ""
    }
    END { print "    return 0;\n}" }' "$header" >"$work/facts.c"

header=$(cd "$(dirname "$header")" && pwd)/$(basename "$header")
${CC:-cc} -std=c99 -DHEADER="\"$header\"" "$work/facts.c" -o "$work/facts"
"$work/facts"
