package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	begun := time.Now().Add(-time.Hour)
	for i := range KeptLogs + 3 {
		name := filepath.Join(dir, fmt.Sprintf("r-00001-%05d.log", i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, begun, begun.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "other-00001-aaaaa.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Prune(dir, "r-00001", func(pod string) bool { return pod == "r-00001-00001" }); err != nil {
		t.Fatal(err)
	}
	got, err := Logs(dir, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"r-00001-00001"}
	for i := 3; i < KeptLogs+3; i++ {
		want = append(want, fmt.Sprintf("r-00001-%05d", i))
	}
	if diff := cmp.Diff(append(want, "other-00001-aaaaa"), got); diff != "" {
		t.Errorf("logs kept (-want +got):\n%s", diff)
	}
	if err := Forget(dir, func(pod string) bool { return pod == "r-00001-00007" }); err != nil {
		t.Fatal(err)
	}
	if got, err = Logs(dir, func(string) bool { return true }); err != nil || len(got) != 1 || got[0] != "r-00001-00007" {
		t.Errorf("logs %v after all but one were forgotten: %v", got, err)
	}
}

