package fn

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestRunPassesBytesThrough(t *testing.T) {
	var out bytes.Buffer
	in := strings.NewReader("a\x00\xffb")
	err := run(in, &out, func(input []byte) ([]byte, error) { return input, nil })
	if err != nil || out.String() != "a\x00\xffb" {
		t.Fatalf("got %q, %v", out.String(), err)
	}
}

func TestAFailedHandlerWritesNoAnswer(t *testing.T) {
	var out bytes.Buffer
	wanted := errors.New("no such user")
	err := run(strings.NewReader("{}"), &out, func([]byte) ([]byte, error) { return []byte("half"), wanted })
	if !errors.Is(err, wanted) || out.Len() != 0 {
		t.Fatalf("got %q, %v", out.String(), err)
	}
	if run(strings.NewReader(""), &out, nil) == nil {
		t.Fatal("a nil handler was accepted")
	}
}

func TestJSON(t *testing.T) {
	var v struct{ Name string }
	if err := ParseJSON([]byte(`{"name":"x"}`), &v); err != nil || v.Name != "x" {
		t.Fatalf("got %+v, %v", v, err)
	}
	for _, bad := range []string{"", "{", "[1]"} {
		if ParseJSON([]byte(bad), &v) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := JSON(func() {}); err == nil {
		t.Error("a function was encoded")
	}
}
