package pod

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func machine(t *testing.T) *Machine {
	t.Helper()
	m, killed, err := NewMachine(t.TempDir(), t.TempDir())
	if err != nil || len(killed) > 0 {
		t.Fatalf("killed %v: %v", killed, err)
	}
	t.Cleanup(m.Close)
	return m
}

// shell is a pod that runs a script.
func shell(t *testing.T, m *Machine, script string) *Pod {
	t.Helper()
	p, err := m.Start(Spec{Namespace: "default", Name: "test-00001-bcdfg", Command: []string{"/bin/sh", "-c", script},
		Env: []EnvVar{{"FILE", "/etc/x/a/b"}, {"OTHER", "/etc/xyz"}}, Mounts: []Mount{{Path: "/etc/x", Files: map[string][]byte{"a/b": []byte("mounted")}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); p.Remove() })
	return p
}

func end(t *testing.T, p *Pod) {
	t.Helper()
	select {
	case <-p.Exited():
	case <-time.After(20 * time.Second):
		t.Fatal("the pod has not ended")
	}
}

func TestPod(t *testing.T) {
	m := machine(t)
	p := shell(t, m, `read line; echo "$PORT:$OTHER:$(pwd):$line"; cat "$FILE"; echo; env | cut -d= -f1 | sort | tr '\n' ' '; exit 4`)
	end(t, p)
	if got := p.Outcome(); got != "exit status 4" {
		t.Errorf("outcome %q", got)
	}
	root, err := filepath.EvalSymlinks(m.root)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(p.Address)
	lines := strings.Split(Tail(m.LogDir("default"), "test-00001-bcdfg", 10), "\n")
	if want := port + ":/etc/xyz:" + root + ":"; lines[0] != want {
		t.Errorf("%q, want %q", lines[0], want)
	}
	if lines[1] != "mounted" {
		t.Errorf("its file holds %q", lines[1])
	}
	// PWD, SHLVL and _ are the shell's own doing.
	if want := "AISLE_LAUNCHED FILE OTHER PORT PWD"; strings.Join(strings.Fields(strings.NewReplacer("SHLVL", "", "OLDPWD", "", " _ ", " ").Replace(lines[2])), " ") != want {
		t.Errorf("environment %q, want %q", lines[2], want)
	}
}

func TestOutcomeOfASignal(t *testing.T) {
	p := shell(t, machine(t), "kill -9 $$$$")
	end(t, p)
	if got := p.Outcome(); got != "signal SIGKILL" {
		t.Errorf("outcome %q", got)
	}
	p.Term() // to nobody: its pid may be another's
	p.Kill()
}

func TestStop(t *testing.T) {
	tests := []struct {
		name, script string
		grace        time.Duration
		hurry        bool
		killed       bool
	}{
		{name: "obeys", script: `trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done`, grace: time.Minute},
		{name: "ignores", script: `trap '' TERM; echo up; while :; do sleep 0.01; done`, grace: 50 * time.Millisecond, killed: true},
		{name: "ignores, and nobody waits", script: `trap '' TERM; echo up; while :; do sleep 0.01; done`, grace: time.Minute, hurry: true, killed: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := machine(t)
			p := shell(t, m, test.script)
			awaitLine(t, m, "up")
			hurry := make(chan struct{})
			if test.hurry {
				close(hurry)
			}
			if killed := p.Stop(test.grace, hurry); killed != test.killed {
				t.Errorf("killed: %v, want %v", killed, test.killed)
			}
		})
	}
}

func awaitLine(t *testing.T, m *Machine, line string) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for end := time.After(20 * time.Second); !strings.Contains(Tail(m.LogDir("default"), "test-00001-bcdfg", 3), line); {
		select {
		case <-look.C:
		case <-end:
			t.Fatalf("the pod never wrote %q", line)
		}
	}
}

func TestGroupGoesWithItsLeader(t *testing.T) {
	m := machine(t)
	p := shell(t, m, `sh -c 'trap "" TERM; echo $$$$; while :; do sleep 0.01; done' & echo child $!; wait $!`)
	awaitLine(t, m, "child ")
	var child int
	for _, line := range strings.Split(Tail(m.LogDir("default"), "test-00001-bcdfg", 3), "\n") {
		fmt.Sscanf(line, "child %d", &child)
	}
	if child == 0 {
		t.Fatal("no child")
	}
	p.Term()
	end(t, p)
	if err := awaitGone([]int{child}, 20*time.Second); err != nil {
		t.Error(err)
	}
}

func TestSpawnerKillsWhatIsLeft(t *testing.T) {
	m, _, err := NewMachine(t.TempDir(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := shell(t, m, "while :; do sleep 0.01; done")
	m.Close()
	end(t, p)
	if _, err := m.Start(Spec{Name: "late", Command: []string{"/bin/true"}}); !errors.Is(err, errClosed) {
		t.Errorf("started after Close: %v", err)
	}
}

func TestStartRefused(t *testing.T) {
	m := machine(t)
	for name, test := range map[string]struct {
		spec Spec
		want string
	}{
		"no command":        {Spec{}, "has no command"},
		"not built":         {Spec{Command: []string{"bin/none"}}, "make build"},
		"a file that flees": {Spec{Command: []string{"/bin/true"}, Mounts: []Mount{{Path: "/x", Files: map[string][]byte{"../../y": nil}}}}, "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			test.spec.Namespace, test.spec.Name = "default", "refused"
			if _, err := m.Start(test.spec); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
			if _, err := os.Stat(filepath.Join(m.pods, "default", "refused")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its folder stays: %v", err)
			}
		})
	}
}

func TestRelocate(t *testing.T) {
	at := map[string]string{"/etc/aisle": "/tmp/0", "/etc/aisle/deep": "/tmp/1", "/": "/tmp/2"}
	noRoot := map[string]string{"/etc/aisle": "/tmp/0"}
	for _, test := range []struct {
		value, want string
		at          map[string]string
	}{
		{"/etc/aisle", "/tmp/0", at},
		{"/etc/aisle/a", "/tmp/0/a", at},
		{"/etc/aisle/deep/a", "/tmp/1/a", at},
		{"/etc/aisles", "/etc/aisles", noRoot},
		{"etc/aisle", "etc/aisle", noRoot},
		{"see /etc/aisle", "see /etc/aisle", noRoot},
		{"", "", at},
		{"/var", "/tmp/2/var", at},
	} {
		if got := Relocate(test.value, test.at); got != test.want {
			t.Errorf("%q: %q, want %q", test.value, got, test.want)
		}
	}
}

func TestPorts(t *testing.T) {
	now := time.Now()
	ports := NewPorts(func() time.Time { return now })
	defer ports.Close()
	first, err := ports.Take()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", first.Number)
	// Another engine does not get it, reserved as it is and listened on.
	if fd, err := reserve(first.Number); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("reserved twice: %d, %v", fd, err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("its pod cannot listen: %v", err)
	}
	if _, err := reserve(first.Number); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("reserved while its pod listens: %v", err)
	}
	_ = l.Close()
	ports.Rest(first)
	now = now.Add(quarantine - time.Second)
	ports.next = first.Number // as if all others had been given out
	second, err := ports.Take()
	if err != nil || second.Number == first.Number {
		t.Fatalf("port %v after %v in quarantine: %v", second, quarantine-time.Second, err)
	}
	ports.Rest(second)
	now = now.Add(2 * time.Second)
	ports.next = first.Number
	third, err := ports.Take()
	if err != nil || third.Number != first.Number {
		t.Errorf("port %v after the quarantine of %d: %v", third, first.Number, err)
	}
	ports.Rest(third)
}
