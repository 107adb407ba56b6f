package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestReadOutcomes(t *testing.T) {
	const stream = `{"Action":"run","Test":"TestA"}
{"Action":"run","Test":"TestA/sub"}
{"Action":"fail","Test":"TestA/sub","Elapsed":9}
{"Action":"pass","Test":"TestA","Elapsed":1.5}
not json
{"Action":"output","Test":"TestB","Output":"    x_test.go:3: only on one machine: it is about: processes\n"}
{"Action":"skip","Test":"TestB","Elapsed":0}
{"Action":"fail","Test":"TestC","Elapsed":2}
{"Action":"run","Test":"TestD"}
{"Action":"pass","Elapsed":4}
`
	var out strings.Builder
	got, err := readOutcomes(strings.NewReader(stream), &out)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]outcome{
		"TestA": {action: "pass", elapsed: 1500 * time.Millisecond},
		"TestB": {action: "skip", reason: "only on one machine: it is about: processes"},
		"TestC": {action: "fail", elapsed: 2 * time.Second},
		"TestD": {},
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: %+v, want %+v", name, got[name], w)
		}
	}
	if !strings.Contains(out.String(), "not json") {
		t.Errorf("what is no event is lost: %q", out.String())
	}
}

func TestWriteParity(t *testing.T) {
	engine := map[string]outcome{
		"TestA": {action: "pass", elapsed: time.Second}, "TestB": {action: "pass"}, "TestC": {action: "skip", reason: "only on a cluster: so"}, "TestE": {},
	}
	cluster := map[string]outcome{
		"TestA": {action: "pass", elapsed: 2 * time.Second}, "TestB": {action: "fail", elapsed: time.Second}, "TestC": {action: "pass"},
	}
	var out strings.Builder
	if err := writeParity(&out, engine, cluster); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for i, want := range []string{
		"TEST ONE MACHINE CLUSTER WHY NOT ON BOTH", "TestA 1.0 s 2.0 s", "TestB 0.0 s FAILED 1.0 s", "TestC - 0.0 s only on a cluster: so", "TestE not run not run",
		"4 tests, 1 passed on both",
	} {
		if i >= len(lines) || lines[i] != want {
			t.Errorf("line %d of\n%swant %q", i, out.String(), want)
		}
	}
	if err := writeParity(io.Discard, nil, nil); err != nil {
		t.Error(err)
	}
}
