package grate_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

// In the environment of the processes that the tests below start: the state file that they use.
const stateOfWorker = "GRATE_TEST_STATE"

func TestMain(m *testing.M) {
	if path := os.Getenv(stateOfWorker); path != "" {
		engine, err := sharing(grate.StateFile{Path: path})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(served(engine))
		// Not closed: as if it had died.
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sharing makes an engine whose a has 1000 requests an hour, and three leases in flight.
func sharing(file grate.StateFile) (*grate.Engine, error) {
	quotas := []grate.Quota{
		{Dimension: grate.DimensionRequests, Limit: 1000, Window: time.Hour}, {Dimension: grate.DimensionConcurrency, Limit: 3}}
	return grate.New(serving(grate.Provider{Name: "a", Quotas: quotas}), grate.WithStateFile(file))
}

// served is how many requests an engine admits until its quota is spent, of which two are left without an answer.
func served(engine *grate.Engine) int {
	for count := 0; ; count++ {
		lease, err := engine.Acquire(background, "api", grate.Request{})
		if err != nil {
			return count
		}
		if count >= 2 && lease.Complete(grate.Response{HTTPStatus: 200}) != nil {
			return -1
		}
	}
}

func TestProcessesShareAQuota(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	engine := must(sharing(grate.StateFile{Path: path}))(t)
	defer engine.Close()
	outputs := make(chan int)
	for range 3 {
		go func() {
			worker := exec.Command(os.Args[0])
			worker.Env = append(os.Environ(), stateOfWorker+"="+path)
			out, err := worker.Output()
			count := -1
			if _, failed := fmt.Sscan(string(out), &count); err != nil || failed != nil {
				t.Errorf("%v: %s", err, out)
			}
			outputs <- count
		}()
	}
	total := 0
	for range 3 {
		total += <-outputs
	}
	// They are gone, and with them the leases that they did not settle: their slots are free, their units stay counted.
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if remaining(t, engine, grate.DimensionConcurrency) == 3 {
			break
		}
	}
	equal(t, "slots", 3, remaining(t, engine, grate.DimensionConcurrency))
	equal(t, "served", 1000, total+served(engine))
}

func TestARestartKeepsTheUsage(t *testing.T) {
	file := grate.StateFile{Path: filepath.Join(t.TempDir(), "state")}
	engine := must(sharing(file))(t)
	for range 400 {
		ok(t, must(engine.Acquire(background, "api", grate.Request{}))(t).Complete(grate.Response{HTTPStatus: 200}))
	}
	ok(t, engine.Close())
	engine = must(sharing(file))(t)
	defer engine.Close()
	equal(t, "requests", 600, remaining(t, engine, grate.DimensionRequests))
}

func TestAStateFileThatCannotBeUsed(t *testing.T) {
	file := grate.StateFile{Path: filepath.Join(t.TempDir(), "state")}
	ok(t, os.WriteFile(file.Path, []byte("something else"), 0o600))
	_, err := sharing(file)
	fails(t, err, grate.ErrStateFile, "'"+file.Path+"' is not a state file")
	equal(t, "code", 14, int(grate.ErrStateFile))
	equal(t, "name", "GRATE_ERR_STATE_FILE", grate.ErrStateFile.Name())

	file.ReplaceUnusable, file.Size = true, 1<<20
	ok(t, must(sharing(file))(t).Close())
	equal(t, "size", 1<<20, must(os.Stat(file.Path))(t).Size())

	_, err = sharing(grate.StateFile{Path: filepath.Join(file.Path, "none")})
	fails(t, err, grate.ErrStateFile, "none")
	_, err = sharing(grate.StateFile{Path: file.Path + "2", Size: 1})
	fails(t, err, grate.ErrInvalidConfig, "1 MiB")
	for _, path := range []string{"", "a\x00b"} {
		_, err = sharing(grate.StateFile{Path: path})
		fails(t, err, grate.ErrInvalidArgument, "state")
	}
}
