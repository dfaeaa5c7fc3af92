// Command bench times a call of the library and a pair of Acquire and Complete, for comparison with other languages: the
// medians of alternating batches. Its argument is the configuration.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

const (
	batches    = 2000
	warmUp     = 200 // batches that do not count
	emptyCalls = 5000
	cycles     = 500 // as few as in bench.c
)

func main() {
	log.SetFlags(0)
	document, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	engine, err := grate.NewJSON(document)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	var empty, cycle []float64
	for i := 0; i < warmUp+batches; i++ {
		e, c := timed(emptyCalls, versions), timed(cycles, func(n int) { pairs(engine, n) })
		if i >= warmUp {
			empty, cycle = append(empty, e), append(cycle, c)
		}
	}
	fmt.Printf("bench\tGo\t%.1f\t%.1f\n", median(empty), median(cycle))
}

// timed is the nanoseconds of one of n calls.
func timed(n int, batch func(n int)) float64 {
	start := time.Now()
	batch(n)
	return float64(time.Since(start).Nanoseconds()) / float64(n)
}

func versions(n int) {
	sum := 0
	for i := 0; i < n; i++ {
		sum += grate.LibraryVersion()
	}
	if sum != n*grate.LibraryVersion() {
		log.Fatal("the version changed")
	}
}

func pairs(engine *grate.Engine, n int) {
	ctx := context.Background()
	for i := 0; i < n; i++ {
		lease, err := engine.Acquire(ctx, "chat", grate.Request{Tokens: 100})
		if err != nil {
			log.Fatal(err)
		}
		if err := lease.Complete(grate.Response{HTTPStatus: 200, Tokens: 100}); err != nil {
			log.Fatal(err)
		}
	}
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
