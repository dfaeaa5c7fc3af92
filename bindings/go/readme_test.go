package grate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The programs of the README run as they stand.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	ok(t, err)
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	equal(t, "programs", 2, len(programs))

	equal(t, "output", "send it to primary\n", run(t, programs[0][1]))

	url := answering(t, `{"Usage": {"TotalTokens": 1043}}`)
	equal(t, "output", "", run(t, programs[1][1], "../bench.json", url))
}

// run builds and runs a program inside of this module.
func run(t *testing.T, source []byte, args ...string) string {
	t.Helper()
	ok(t, os.MkdirAll("build", 0o755))
	folder, err := os.MkdirTemp("build", "readme")
	ok(t, err)
	defer os.RemoveAll(folder)
	ok(t, os.WriteFile(filepath.Join(folder, "main.go"), source, 0o644))
	out, err := exec.Command("go", append([]string{"run", "-tags", buildTags, "./" + folder}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
