package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLastLines(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for _, test := range []struct {
		text  string
		n     int
		want  string
		lines int
	}{
		{"a\nb\nc\n", 2, "b\nc\n", 2},
		{"a\nb\nc", 2, "b\nc", 2}, // its last line is being written
		{"a\nb\nc\n", 3, "a\nb\nc\n", 3},
		{"a\nb\nc\n", 9, "a\nb\nc\n", 3},
		{"a\nb\n", 0, "", 0},
		{"a\nb\n", -1, "", 0},
		{"", 2, "", 0},
		{"\n\n\n", 2, "\n\n", 2},
		{long + "\n" + long + "\nb\n", 2, long + "\nb\n", 2}, // over several blocks
	} {
		file := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		from, lines, err := lastLines(file, test.n)
		if err != nil || test.text[from:] != test.want || lines != test.lines {
			t.Errorf("the last %d lines of %.20q: %d from %d, %v", test.n, test.text, lines, from, err)
		}
	}
	if from, lines, err := lastLines(filepath.Join(t.TempDir(), "absent"), 3); from != 0 || lines != 0 || err != nil {
		t.Errorf("of no file: %d from %d, %v", lines, from, err)
	}
}
