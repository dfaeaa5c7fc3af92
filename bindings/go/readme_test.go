package grate_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The programs of the README run as they stand.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	ok(t, err)
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	equal(t, "programs", 3, len(programs))

	equal(t, "output", "send it to primary\n", run(t, compiled(t, programs[0][1])))

	url := answering(t, `{"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 43, "total_tokens": 1043}}`)
	equal(t, "output", "used 1043 tokens\n", run(t, compiled(t, programs[1][1]), "../bench.json", url))

	twoServe(t, compiled(t, programs[2][1]))
}

// twoServe sees two processes of a program answer on one address.
func twoServe(t *testing.T, program string) {
	t.Helper()
	free := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	address := free.Addr().String()
	ok(t, free.Close())
	state := filepath.Join(t.TempDir(), "state")
	for range 2 {
		server := exec.Command(program, "../bench.json", state, address)
		server.Stderr = os.Stderr
		ok(t, server.Start())
		defer server.Wait()
		defer server.Process.Kill()
	}
	answers := map[string]bool{}
	for deadline := time.Now().Add(20 * time.Second); len(answers) < 2 && time.Now().Before(deadline); {
		// A new connection each time, which goes to any of them.
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + address)
		if err != nil {
			time.Sleep(20 * time.Millisecond) // none listens yet
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		ok(t, err)
		if !strings.HasSuffix(string(body), "sends it to primary\n") {
			t.Fatalf("%s: %s", response.Status, body)
		}
		answers[string(body)] = true
	}
	equal(t, "processes that answered", 2, len(answers))
}

// compiled is a program that was built inside of this module.
func compiled(t *testing.T, source []byte) string {
	t.Helper()
	ok(t, os.MkdirAll("build", 0o755))
	folder, err := os.MkdirTemp("build", "readme")
	ok(t, err)
	defer os.RemoveAll(folder)
	ok(t, os.WriteFile(filepath.Join(folder, "main.go"), source, 0o644))
	program := filepath.Join(t.TempDir(), "program")
	out, err := exec.Command("go", "build", "-tags", buildTags, "-o", program, "./"+folder).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
