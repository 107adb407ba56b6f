package pod

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A leftover is killed when its record names it, and a process that has only
// its pid is not.
func TestReap(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*record)
		killed bool
	}{
		{"recorded", func(*record) {}, true},
		{"another start time", func(r *record) { r.StartTime-- }, false},
		{"another boot", func(r *record) { r.BootID = "x" }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", "while :; do sleep 0.01; done")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				_ = cmd.Wait()
			}()
			start, err := StartTime(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			r := record{cmd.Process.Pid, start, boot}
			test.change(&r)
			dir := t.TempDir()
			folder := filepath.Join(dir, "default", "left-00001-bcdfg")
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, recordName), text, 0o600); err != nil {
				t.Fatal(err)
			}
			killed, err := Reap(dir, 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(killed) > 0 && killed[0].PID == r.PID; got != test.killed {
				t.Errorf("killed %v, want %v", killed, test.killed)
			}
			if s, err := readStat(r.PID); (err != nil || s.state == 'Z') != test.killed {
				t.Errorf("state %c, %v", s.state, err)
			}
		})
	}
}

func TestReapOfAnUnreadableRecord(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"damaged", "{", "remove the file"},
		{"emptied by a power cut", "", ""},
		{"zeroed by a power cut", "\x00\x00\x00", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			folder := filepath.Join(dir, "default", "left")
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, recordName), []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			killed, err := Reap(dir, time.Second)
			if test.want == "" && (err != nil || len(killed) > 0) {
				t.Errorf("%v, %v: want it to mean nothing", killed, err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v: want %q in it", err, test.want)
			}
		})
	}
}
