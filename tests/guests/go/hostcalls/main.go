// Hostcalls calls every host function under one of the three module names and
// answers what it got.
package main

import (
	"encoding/json"
	"io"
	"os"
	"time"
	"unsafe"
)

// What the host allocated stays reachable until the process ends.
var pinned = map[unsafe.Pointer][]byte{}

//go:wasmexport malloc
func malloc(size uint32) unsafe.Pointer {
	if size == 0 {
		size = 1
	}
	block := make([]byte, size)
	at := unsafe.Pointer(&block[0])
	pinned[at] = block
	return at
}

//go:wasmimport env get_caller_wallet
func envWallet() uint64

//go:wasmimport env get_caller_jwt_subject
func envSubject() uint64

//go:wasmimport env get_caller_claim
func envClaim(at unsafe.Pointer, length uint32) uint64

//go:wasmimport env get_request_id
func envRequestID() uint64

//go:wasmimport env get_env
func envEnv(at unsafe.Pointer, length uint32) uint64

//go:wasmimport env get_secret
func envSecret(at unsafe.Pointer, length uint32) uint64

//go:wasmimport env log_info
func envInfo(at unsafe.Pointer, length uint32)

//go:wasmimport env log_error
func envError(at unsafe.Pointer, length uint32)

//go:wasmimport host get_caller_wallet
func hostWallet() uint64

//go:wasmimport host get_caller_jwt_subject
func hostSubject() uint64

//go:wasmimport host get_caller_claim
func hostClaim(at unsafe.Pointer, length uint32) uint64

//go:wasmimport host get_request_id
func hostRequestID() uint64

//go:wasmimport host get_env
func hostEnv(at unsafe.Pointer, length uint32) uint64

//go:wasmimport host get_secret
func hostSecret(at unsafe.Pointer, length uint32) uint64

//go:wasmimport host log_info
func hostInfo(at unsafe.Pointer, length uint32)

//go:wasmimport host log_error
func hostError(at unsafe.Pointer, length uint32)

//go:wasmimport orama get_caller_wallet
func oramaWallet() uint64

//go:wasmimport orama get_caller_jwt_subject
func oramaSubject() uint64

//go:wasmimport orama get_caller_claim
func oramaClaim(at unsafe.Pointer, length uint32) uint64

//go:wasmimport orama get_request_id
func oramaRequestID() uint64

//go:wasmimport orama get_env
func oramaEnv(at unsafe.Pointer, length uint32) uint64

//go:wasmimport orama get_secret
func oramaSecret(at unsafe.Pointer, length uint32) uint64

//go:wasmimport orama log_info
func oramaInfo(at unsafe.Pointer, length uint32)

//go:wasmimport orama log_error
func oramaError(at unsafe.Pointer, length uint32)

type table struct {
	wallet, subject, requestID func() uint64
	claim, env, secret         func(unsafe.Pointer, uint32) uint64
	info, fail                 func(unsafe.Pointer, uint32)
}

var tables = map[string]table{
	"env":   {envWallet, envSubject, envRequestID, envClaim, envEnv, envSecret, envInfo, envError},
	"host":  {hostWallet, hostSubject, hostRequestID, hostClaim, hostEnv, hostSecret, hostInfo, hostError},
	"orama": {oramaWallet, oramaSubject, oramaRequestID, oramaClaim, oramaEnv, oramaSecret, oramaInfo, oramaError},
}

func taken(packed uint64) string {
	if packed == 0 {
		return ""
	}
	at, length := unsafe.Pointer(uintptr(packed>>32)), uint32(packed)
	text := string(pinned[at][:length])
	delete(pinned, at)
	return text
}

func named(call func(unsafe.Pointer, uint32) uint64, name string) string {
	raw := []byte(name + "\x00")
	return taken(call(unsafe.Pointer(&raw[0]), uint32(len(name))))
}

func say(call func(unsafe.Pointer, uint32), message string) {
	raw := []byte(message + "\x00")
	call(unsafe.Pointer(&raw[0]), uint32(len(message)))
}

func main() {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	var r struct {
		Module string `json:"module"`
		Claim  string `json:"claim"`
		Env    string `json:"env"`
		Secret string `json:"secret"`
		Info   string `json:"info"`
		Error  string `json:"error"`
		Sleep  int    `json:"sleep"`
		Lines  int    `json:"lines"`
	}
	if err := json.Unmarshal(input, &r); err != nil {
		panic(err)
	}
	t, known := tables[r.Module]
	if !known {
		panic("unknown module " + r.Module)
	}
	say(t.info, r.Info)
	first := t.wallet()
	wallet := taken(first)
	time.Sleep(time.Duration(r.Sleep) * time.Millisecond)
	for i := 0; i < r.Lines; i++ {
		say(t.info, "line")
	}
	result := map[string]string{
		"wallet": wallet, "subject": taken(t.subject()), "request_id": taken(t.requestID()),
		"claim": named(t.claim, r.Claim), "env": named(t.env, r.Env), "secret": named(t.secret, r.Secret),
	}
	say(t.fail, r.Error)
	output, _ := json.Marshal(result)
	os.Stdout.Write(output)
}
