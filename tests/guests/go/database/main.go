// Database makes the calls that its input lists and answers what each of them
// answered: {"calls":[{"call":"db_query_v2","sql":"…","args":[…]}, …]}. With
// "loop" it makes so many writes one after the other, and reads each back when
// "read" names a level.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"
)

// What the host allocated stays reachable until it was taken.
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

//go:wasmimport env db_query
func dbQuery(sql unsafe.Pointer, sqlLen uint32, args unsafe.Pointer, argsLen uint32) uint64

//go:wasmimport host db_execute
func dbExecute(sql unsafe.Pointer, sqlLen uint32, args unsafe.Pointer, argsLen uint32) uint32

//go:wasmimport orama db_query_v2
func dbQueryV2(sql unsafe.Pointer, sqlLen uint32, args unsafe.Pointer, argsLen uint32) uint64

//go:wasmimport env db_execute_v2
func dbExecuteV2(sql unsafe.Pointer, sqlLen uint32, args unsafe.Pointer, argsLen uint32) uint64

//go:wasmimport env db_transaction
func dbTransaction(ops unsafe.Pointer, opsLen uint32) uint64

//go:wasmimport env db_query_batch
func dbQueryBatch(ops unsafe.Pointer, opsLen uint32) uint64

type call struct {
	Call string          `json:"call"`
	SQL  string          `json:"sql"`
	Args json.RawMessage `json:"args"`
	Ops  json.RawMessage `json:"ops"`
}

type input struct {
	Calls []call `json:"calls"`
	Loop  int    `json:"loop"`
	From  int    `json:"from"`
	Read  string `json:"read"`
}

func text(bytes []byte) (unsafe.Pointer, uint32) {
	if len(bytes) == 0 {
		return nil, 0
	}
	return unsafe.Pointer(&bytes[0]), uint32(len(bytes))
}

// taken is what the host put into our memory; JSON null for 0.
func taken(packed uint64) json.RawMessage {
	if packed == 0 {
		return json.RawMessage("null")
	}
	at, length := unsafe.Pointer(uintptr(packed>>32)), uint32(packed)
	bytes := append([]byte(nil), pinned[at][:length]...)
	delete(pinned, at)
	return bytes
}

func (c call) make() json.RawMessage {
	sql, sqlLen := text([]byte(c.SQL))
	args, argsLen := text(c.Args)
	ops, opsLen := text(c.Ops)
	switch c.Call {
	case "db_query":
		return taken(dbQuery(sql, sqlLen, args, argsLen))
	case "db_execute":
		return json.RawMessage(fmt.Sprint(dbExecute(sql, sqlLen, args, argsLen)))
	case "db_query_v2":
		return taken(dbQueryV2(sql, sqlLen, args, argsLen))
	case "db_execute_v2":
		return taken(dbExecuteV2(sql, sqlLen, args, argsLen))
	case "db_transaction":
		return taken(dbTransaction(ops, opsLen))
	case "db_query_batch":
		return taken(dbQueryBatch(ops, opsLen))
	}
	panic("unknown call " + c.Call)
}

// loop writes one row after the other; every write must be acknowledged.
func loop(in input) json.RawMessage {
	began, slowest := time.Now(), time.Duration(0)
	for i := in.From; i < in.From+in.Loop; i++ {
		at := time.Now()
		answer := call{
			Call: "db_execute_v2", SQL: "INSERT INTO steps (n) VALUES (?)",
			Args: json.RawMessage(fmt.Sprintf("[%d]", i)),
		}.make()
		var written struct {
			RowsAffected int64  `json:"rows_affected"`
			Error        string `json:"error"`
		}
		if err := json.Unmarshal(answer, &written); err != nil || written.Error != "" || written.RowsAffected != 1 {
			panic(fmt.Sprintf("write %d: %s", i, answer))
		}
		slowest = max(slowest, time.Since(at))
		if in.Read == "" {
			continue
		}
		answer = call{
			Call: "db_query_batch",
			Ops: json.RawMessage(fmt.Sprintf(
				`{"ops":[{"sql":"SELECT count(*) AS c FROM steps WHERE n = ?","args":[%d]}],"consistency":%q}`, i, in.Read)),
		}.make()
		var read struct {
			Results []struct {
				Rows []struct {
					C int64 `json:"c"`
				} `json:"rows"`
			} `json:"results"`
			Error string `json:"error"`
		}
		if err := json.Unmarshal(answer, &read); err != nil || read.Error != "" || len(read.Results) != 1 ||
			len(read.Results[0].Rows) != 1 || read.Results[0].Rows[0].C != 1 {
			panic(fmt.Sprintf("read of write %d: %s", i, answer))
		}
	}
	took := time.Since(began)
	answer, _ := json.Marshal(map[string]any{
		"writes": in.Loop, "millis": took.Milliseconds(), "slowest_micros": slowest.Microseconds(),
	})
	return answer
}

func main() {
	bytes, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	var in input
	if err := json.Unmarshal(bytes, &in); err != nil {
		panic(err)
	}
	answers := []json.RawMessage{}
	for _, c := range in.Calls {
		answers = append(answers, c.make())
	}
	if in.Loop > 0 {
		answers = append(answers, loop(in))
	}
	output, err := json.Marshal(answers)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(output)
}
