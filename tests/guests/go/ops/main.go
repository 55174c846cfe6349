// Ops does one thing per invocation, chosen by the JSON field "op"; deployed
// under the name "nostdin" it never reads its input.
package main

import (
	"bytes"
	crand "crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	mrand "math/rand"
	"os"
	"time"
)

type request struct {
	Op    string          `json:"op"`
	Value json.RawMessage `json:"value"`
	Text  string          `json:"text"`
	N     int             `json:"n"`
	Until int64           `json:"until"`
}

var sink [][]byte

//go:noinline
func recurse(n int) int {
	var frame [128]int
	frame[n%128] = n
	return recurse(n+1) + frame[(n*7)%128]
}

func answer(value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(text)
}

func random() string {
	var raw [16]byte
	if _, err := crand.Read(raw[:]); err != nil {
		panic(err)
	}
	return hex.EncodeToString(raw[:])
}

func main() {
	if len(os.Args) > 0 && os.Args[0] == "nostdin" {
		answer(map[string]any{"args": os.Args, "environ": len(os.Environ())})
		return
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	var r request
	if err := json.Unmarshal(input, &r); err != nil {
		fmt.Fprintf(os.Stderr, "bad request: %v", err)
		os.Exit(1)
	}
	switch r.Op {
	case "json":
		var value map[string]any
		if err := json.Unmarshal(r.Value, &value); err != nil {
			panic(err)
		}
		value["keys"] = len(value)
		answer(value)
	case "text":
		os.Stdout.WriteString(r.Text)
	case "binary":
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		os.Stdout.Write(all)
	case "empty":
	case "panic":
		panic("boom: " + r.Text)
	case "recurse":
		fmt.Println(recurse(1))
	case "alloc":
		for i := 0; i < r.N; i++ {
			block := make([]byte, 1<<20)
			for j := 0; j < len(block); j += 4096 {
				block[j] = 1
			}
			sink = append(sink, block)
		}
		answer(map[string]any{"mib": len(sink)})
	case "sleep":
		started := time.Now()
		time.Sleep(time.Duration(r.N) * time.Millisecond)
		answer(map[string]any{"slept_ms": time.Since(started).Milliseconds()})
	case "clock":
		wall, started := time.Now(), time.Now()
		spins := 0
		for time.Since(started) < 20*time.Millisecond {
			spins++
		}
		answer(map[string]any{
			"unix_ms": wall.UnixMilli(), "elapsed_ns": time.Since(started).Nanoseconds(), "spins": spins,
			"crypto": random(), "crypto2": random(), "math": fmt.Sprint(mrand.Int63()),
		})
	case "stderr":
		fmt.Fprintln(os.Stderr, "first line on stderr")
		fmt.Fprintln(os.Stderr, "second: "+r.Text)
		answer("done")
	case "exit":
		os.Stdout.WriteString("words on stdout")
		fmt.Fprintln(os.Stderr, "words on stderr")
		os.Exit(r.N)
	case "fail_until":
		if now := time.Now().UnixMilli(); now < r.Until {
			fmt.Fprintf(os.Stderr, "too early by %d ms\n", r.Until-now)
			os.Exit(1)
		}
		answer("late enough")
	case "output":
		// A JSON string of exactly N bytes, quotes included.
		os.Stdout.Write(append(append([]byte{'"'}, bytes.Repeat([]byte{'x'}, r.N-2)...), '"'))
	case "loop":
		for i := 0; ; i++ {
			if i == -1 {
				fmt.Println(i)
			}
		}
	case "goroutines":
		results := make(chan int)
		for i := 0; i < r.N; i++ {
			go func() { time.Sleep(time.Millisecond); results <- i }()
		}
		sum := 0
		for i := 0; i < r.N; i++ {
			sum += <-results
		}
		answer(map[string]any{"sum": sum})
	default:
		fmt.Fprintf(os.Stderr, "unknown op %q\n", r.Op)
		os.Exit(1)
	}
}
