package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/prediction"
)

// The short form of make chaos: with the real engine where make build has made
// its pods, as make test does first, else with pretended functions.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	program := filepath.Join(t.TempDir(), "chaos")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoint", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args := []string{"-json", "-events", "12000", "-rate", "300", "-kills", "2s", "-points", "4", "-limit", "8m"}
	if _, err := os.Stat("../../bin/classifier"); err != nil {
		t.Log("without bin/: with pretended functions")
		args = append(args, "-stand-in")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = "../.."
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	var r report
	if jerr := json.Unmarshal(out, &r); jerr != nil {
		t.Fatalf("%v, %v\n%s", err, jerr, &log)
	}
	t.Logf("\n%s", r)
	if err != nil {
		t.Errorf("%v\n%s", err, &log)
	}
	if r.Killed.Engine+r.Killed.Point < 2 || r.Killed.Composer == 0 || r.Killed.Classifier == 0 || r.DeadLettered < r.Sent/poisoned {
		t.Errorf("it was not chaotic enough")
	}
}

func result(label string, ms float64, digests ...string) category.Result {
	r := category.Result{Category: &category.Category{Label: label, Confidence: .5}, DurationMs: ms}
	for _, d := range digests {
		leg := category.Leg{Name: "leg", Outcome: category.LegFailed, Reason: "chance"}
		if d != "" {
			leg = category.Leg{Name: "leg", Outcome: category.Answered, Model: &prediction.Model{Digest: d}, LatencyMs: ms}
		}
		r.Legs = append(r.Legs, leg)
	}
	return r
}

// What the verdict is to find is found.
func TestVerdict(t *testing.T) {
	tests := []struct {
		name string
		do   func(*ledger)
		says string // "": all is well
	}{
		{"an answer and a dead letter", func(l *ledger) { l.answer("e0", "a", result("x", 1, "m")); l.isDead("e1") }, ""},
		{"an answer twice", func(l *ledger) {
			l.answer("e0", "a", result("x", 1, "m"))
			l.answer("e0", "a", result("x", 2, "m"))
			l.isDead("e1")
		}, ""},
		{"a second answer by other legs", func(l *ledger) {
			l.answer("e0", "a", result("x", 1, "m", ""))
			l.answer("e0", "b", result("y", 1, "m", "n"))
			l.isDead("e1")
		}, ""},
		{"one is lost", func(l *ledger) { l.isDead("e1") }, "1 accepted events have neither"},
		{"one id, two categories", func(l *ledger) {
			l.answer("e0", "a", result("x", 1, "m"))
			l.answer("e0", "a", result("y", 1, "m"))
			l.isDead("e1")
		}, "differ"},
		{"two ids by the same legs", func(l *ledger) {
			l.answer("e0", "a", result("x", 1, "m"))
			l.answer("e0", "b", result("x", 1, "m"))
			l.isDead("e1")
		}, "differ"},
		{"an answer to nothing", func(l *ledger) { l.isDead("e0"); l.isDead("e1"); l.isDead("e2") }, "of no event"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger(2)
			l.accepted(0)
			l.accepted(1)
			tt.do(l)
			r := report{Stored: 2}
			l.count(&r)
			err := r.verdict()
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("verdict %v, want %q", err, tt.says)
			}
			if got := l.left; got != r.Lost {
				t.Errorf("%d are waited for, %d lost", got, r.Lost)
			}
		})
	}
}
