package layout

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestLayout(t *testing.T) {
	var program, want strings.Builder
	program.WriteString("#include <stddef.h>\n#include <stdio.h>\n#include <grate.h>\nint main(void)\n{\n")
	ask := func(expression string, answer uintptr) {
		fmt.Fprintf(&program, "    printf(\"%s = %%zu\\n\", %s);\n", expression, expression)
		fmt.Fprintf(&want, "%s = %d\n", expression, answer)
	}
	for name, layout := range Structs {
		ask("sizeof("+name+")", layout.Size())
		for i := range layout.NumField() {
			field := layout.Field(i)
			ask(fmt.Sprintf("offsetof(%s, %s)", name, field.Name), field.Offset)
		}
	}
	program.WriteString("    return 0;\n}\n")

	source, binary := filepath.Join(t.TempDir(), "layout.c"), filepath.Join(t.TempDir(), "layout")
	if err := os.WriteFile(source, []byte(program.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	compile := append([]string{source, "-o", binary}, flags(t)...)
	if out, err := exec.Command("cc", compile...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := exec.Command(binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want.String() {
		t.Errorf("Go has\n%s\nC has\n%s", want.String(), got)
	}
}

// A struct that a new header brings must not be forgotten.
func TestEveryStructIsThere(t *testing.T) {
	out, err := exec.Command("cc", append([]string{"-E", "-P", "-include", "grate.h", "-x", "c", os.DevNull}, flags(t)...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?s)typedef struct \{.*?\} (grate_\w+);`).FindAllSubmatch(out, -1)
	for _, match := range found {
		if _, ok := Structs[string(match[1])]; !ok {
			t.Errorf("%s is not compared", match[1])
		}
	}
	if len(found) != len(Structs) {
		t.Errorf("the header has %d structs, compared are %d", len(found), len(Structs))
	}
}

func flags(t *testing.T) []string {
	out, err := exec.Command("pkg-config", "--cflags", "grate").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
