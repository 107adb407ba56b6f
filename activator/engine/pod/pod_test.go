package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
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
		Env: []EnvVar{{"FILE", "/etc/x/a/b"}, {"OTHER", "/etc/xyz"}}, Mounts: []Mount{{"/etc/x", map[string][]byte{"a/b": []byte("mounted")}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); p.Remove() })
	return p
}

func ended(t *testing.T, p *Pod) {
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
	ended(t, p)
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
	if want := "FILE OTHER PORT PWD"; strings.Join(strings.Fields(strings.NewReplacer("SHLVL", "", "OLDPWD", "", " _ ", " ").Replace(lines[2])), " ") != want {
		t.Errorf("environment %q, want %q", lines[2], want)
	}
}

func TestOutcomeOfASignal(t *testing.T) {
	p := shell(t, machine(t), "kill -9 $$")
	ended(t, p)
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
	p := shell(t, m, `sh -c 'trap "" TERM; echo $$; while :; do sleep 0.01; done' & echo child $!; wait $!`)
	awaitLine(t, m, "child ")
	var child int
	for _, line := range strings.Split(Tail(m.LogDir("default"), "test-00001-bcdfg", 3), "\n") {
		fmt.Sscanf(line, "child %d", &child)
	}
	if child == 0 {
		t.Fatal("no child")
	}
	p.Term()
	ended(t, p)
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
	ended(t, p)
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
		"a file that flees": {Spec{Command: []string{"/bin/true"}, Mounts: []Mount{{"/x", map[string][]byte{"../../y": nil}}}}, "escapes"},
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

func TestProbe(t *testing.T) {
	answers := make(chan int, 10)
	var seen *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		w.WriteHeader(<-answers)
	}))
	defer srv.Close()
	for _, s := range []int{503, 404, 200, 500, 204, 302} {
		answers <- s
	}
	addr := srv.Listener.Addr().String()
	probe := Probe{HTTP: true, Path: "/readyz?x=1", Host: "probed", Header: http.Header{"X-Probe": {"yes"}}, Success: 2}
	if err := probe.Wait(t.Context(), addr); err != nil {
		t.Fatal(err)
	}
	if len(answers) != 0 {
		t.Errorf("%d answers left: two passes in a row were asked for", len(answers))
	}
	if seen.Host != "probed" || seen.Header.Get("X-Probe") != "yes" || seen.URL.RequestURI() != "/readyz?x=1" {
		t.Errorf("probed with %+v", seen)
	}
}

func TestProbeGivesUp(t *testing.T) {
	why := errors.New("deadline")
	for _, test := range []struct {
		name  string
		probe Probe
		serve func(net.Conn)
		want  string
	}{
		{"nobody listens", Probe{}, nil, "nothing listens"},
		{"an error", Probe{HTTP: true, Path: "/readyz"}, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 500 No\r\n\r\n") }, "GET /readyz answered 500 No"},
		{"not HTTP", Probe{HTTP: true, Path: "/readyz"}, func(c net.Conn) { fmt.Fprint(c, "hello\n") }, "malformed"},
		{"silence", Probe{HTTP: true, Path: "/readyz", Timeout: 5 * time.Millisecond}, func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<10)); _, _ = c.Read(make([]byte, 1)) }, "no answer within 5ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if test.serve == nil {
				_ = l.Close()
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				for test.serve != nil {
					c, err := l.Accept()
					if err != nil {
						return
					}
					test.serve(c)
					_ = c.Close()
				}
			}()
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
			defer stop.Stop()
			err = test.probe.Wait(ctx, l.Addr().String())
			if !errors.Is(err, why) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want the cause and %q in it", err, test.want)
			}
			_ = l.Close()
			<-served
		})
	}
}

func TestTrim(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenLog(dir, "p")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(s string) {
		t.Helper()
		if _, err := f.WriteString(s); err != nil {
			t.Fatal(err)
		}
		if err := Trim(dir, "p", 10); err != nil {
			t.Fatal(err)
		}
	}
	write("0123456789")
	write("abc\n") // 14 bytes: the newest ten are kept apart
	write("next\n")
	for name, want := range map[string]string{"p.log.1": "456789abc\n", "p.log": "next\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, want %q (%v)", name, got, want, err)
		}
	}
}

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

func TestUsage(t *testing.T) {
	rss, _ := Usage(os.Getpid())
	if rss < 1<<20 || rss > 1<<34 {
		t.Errorf("this process has %d bytes resident", rss)
	}
	if rss, cpu := Usage(1 << 30); rss != 0 || cpu != 0 {
		t.Errorf("nobody uses %d, %g", rss, cpu)
	}
}

// Whatever a process is called, the fields behind its name are found.
func TestParseStat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		group, start := rapid.IntRange(1, 1<<22).Draw(t, "group"), rapid.Uint64Range(1, 1<<40).Draw(t, "start")
		text := fmt.Sprintf("1234 (%s) S 1 %d 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %d 20 21", name, group, start)
		s, err := parseStat([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if s.state != 'S' || s.group != group || s.startTime != start || s.cpuTicks != 11+12 || s.rssPages != 21 {
			t.Fatalf("%+v of %s", s, text)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a b) R 1 2 3"))
	f.Add([]byte(")"))
	f.Add([]byte("1 (x) S 1 1 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 20 -1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := parseStat(text); err == nil && s.startTime == 0 {
			t.Error("a start time of 0 names every process")
		}
	})
}
