// Package fn is the smallest useful frame around an Orama function: it reads
// the request from stdin, calls a handler and writes the answer to stdout.
//
//	func main() {
//		fn.Run(func(input []byte) ([]byte, error) {
//			var request struct {
//				Name string `json:"name"`
//			}
//			if err := fn.ParseJSON(input, &request); err != nil {
//				return nil, err
//			}
//			return fn.JSON(map[string]string{"message": "Hello, " + request.Name + "!"})
//		})
//	}
//
// It compiles with TinyGo (-target wasi) and with Go 1.21 or newer
// (GOOS=wasip1 GOARCH=wasm).
package fn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Handler turns a request into an answer. Both are raw bytes.
type Handler func(input []byte) ([]byte, error)

// Run reads all of stdin, calls handler and writes what it returns to stdout.
//
// When handler fails, its error goes to stderr, which becomes part of the
// invocation's log and of the caller's error message, and the process exits
// with 1, which makes the invocation a failed one. Nothing is then written to
// stdout: a failure never looks like an answer.
func Run(handler Handler) {
	if err := run(os.Stdin, os.Stdout, handler); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, handler Handler) error {
	if handler == nil {
		return errors.New("fn.Run: the handler is nil")
	}
	input, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("reading the input: %w", err)
	}
	output, err := handler(input)
	if err != nil {
		return err
	}
	if _, err := out.Write(output); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// JSON encodes v.
func JSON(v any) ([]byte, error) {
	output, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding the output: %w", err)
	}
	return output, nil
}

// ParseJSON decodes input into v, which must be a pointer. An empty input is
// an error; a handler for which the input is optional tests len(input) first.
func ParseJSON(input []byte, v any) error {
	if len(input) == 0 {
		return errors.New("the input is empty, expected JSON")
	}
	if err := json.Unmarshal(input, v); err != nil {
		return fmt.Errorf("the input is not valid JSON: %w", err)
	}
	return nil
}
