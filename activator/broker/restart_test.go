package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

// What was accepted and not delivered before a stop is delivered after it, and
// how often it was tried is remembered.
func TestRestart(t *testing.T) {
	trigger := triggerTo("sort", "  delivery: {retry: 3, backoffPolicy: linear, backoffDelay: PT0.1S}")
	h := newHarness(t, Options{}, shopBroker, trigger)
	tries := make(chan struct{}, 100)
	h.subscribe("sort"+host, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		tries <- struct{}{}
	})
	h.send("1")
	<-tries
	<-tries
	h.stop()
	h.start(shopBroker, trigger)
	d := h.deadLetterList(1)[0]
	if n := 2 + len(tries); d.Attempts != 4 || n < 3 || n > 4 {
		t.Errorf("dead after %d attempts, of which %d came, want 4", d.Attempts, n)
	}
	if last, err := h.Last(shop); err != nil || last != 1 {
		t.Errorf("the newest event is %d, %v", last, err)
	}
}

// A killed process loses nothing that it said was accepted, and what it was
// delivering is delivered again soon.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("BROKER_TEST_VICTIM"); dir != "" {
		victim(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$", "-test.v")
	cmd.Env = append(os.Environ(), "BROKER_TEST_VICTIM="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // it kills itself
	n := strings.Count(out.String(), "accepted ")
	if n < 100 {
		t.Fatalf("the other process accepted %d events:\n%s", n, &out)
	}
	h := newHarness(t, Options{Dir: dir}, shopBroker, triggerTo("sort", ""))
	got := map[string]bool{}
	take, ch := collect()
	h.subscribe("sort"+host, take)
	for len(got) < n {
		got[received(t, ch).ID()] = true
	}
}

// victim accepts events, and is killed while it delivers some.
func victim(t *testing.T, dir string) {
	h := newHarness(t, Options{Dir: dir}, shopBroker, triggerTo("sort", ""))
	h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for i := range 200 {
		h.send(strconv.Itoa(i))
		fmt.Println("accepted", i)
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// TestSyncAlways: the store is told to have every event on the disk before it
// says that it has it.
func TestSyncAlways(t *testing.T) {
	for _, always := range []bool{false, true} {
		h := newHarness(t, Options{SyncAlways: always}, shopBroker)
		if c := h.store.server.JetStreamConfig(); c.SyncAlways != always {
			t.Errorf("asked for %v, the store has %v", always, c.SyncAlways)
		}
		h.send("1")
	}
}

// TestStoreLog: what the store says after every kill is not told as trouble.
func TestStoreLog(t *testing.T) {
	for _, tt := range []struct {
		format string
		args   []any
		told   bool
	}{
		{"Filestore [orders] Stream state outdated, last block has additional entries, will rebuild", nil, false},
		{"Filestore [orders] Recovering stream state from index errored: %v", []any{errors.New("prior state file")}, false},
		{"Filestore [orders] Recovering stream state from index errored: %v", []any{errors.New("corrupt")}, true},
		{"JetStream resource limits exceeded", nil, true},
	} {
		var text strings.Builder
		l := &serverLog{log: slog.New(slog.NewTextHandler(&text, nil))}
		if l.Warnf(tt.format, tt.args...); (text.Len() > 0) != tt.told || (l.last() != "") != tt.told {
			t.Errorf("%s %v: told %q, remembered %q", tt.format, tt.args, &text, l.last())
		}
	}
}

// Objects that go and come: what belongs to a Trigger goes with it, what a
// Broker holds waits for it.
func TestApplyAgain(t *testing.T) {
	trigger := triggerTo("sort", "")
	h := newHarness(t, Options{Drain: time.Millisecond}, shopBroker, trigger, triggerTo("fine", ""))
	fine, fineGot := collect()
	h.subscribe("fine"+host, fine)
	h.subscribe("sort"+host, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	h.send("1")
	received(t, fineGot)
	apply := func(manifests ...string) {
		t.Helper()
		if err := h.Apply(t.Context(), parse(t, manifests...)); err != nil {
			t.Fatal(err)
		}
	}
	// A changed Trigger.
	apply(shopBroker, trigger, triggerTo("fine", "  filter: {attributes: {type: other}}"))
	h.send("2")
	h.send("3", "Ce-Type", "other")
	if ev := received(t, fineGot); ev.ID() != "3" {
		t.Errorf("got %v, which the changed filter does not take", ev)
	}
	// No Broker, and back again: what was not delivered is there.
	apply(trigger, triggerTo("fine", "  filter: {attributes: {type: other}}"))
	if resp := h.post("/default/shop", map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "x", "Ce-Source": "/s", "Ce-Type": "t"}, ""); resp.StatusCode != 404 {
		t.Errorf("a Broker that is gone: %d", resp.StatusCode)
	}
	take, got := collect()
	h.subscribe("sort"+host, take)
	apply(shopBroker, trigger)
	ids := map[string]bool{}
	for len(ids) < 3 {
		ids[received(t, got).ID()] = true
	}
	// Without its Trigger an event is nobody's; a new one gets new ones.
	apply(shopBroker)
	h.send("4")
	apply(shopBroker, trigger)
	h.send("5")
	for {
		var ev ce.Event
		if ev = received(t, got); ev.ID() == "5" {
			break
		}
		if ev.ID() == "4" {
			t.Error("a new Trigger gets what came before it")
		}
	}
}

// A Broker that is deleted and made again counts its events from 1 again:
// a dead letter of the new one is none that is known.
func TestDeadLettersOfABrokerAnew(t *testing.T) {
	trigger := triggerTo("sort", "")
	h := newHarness(t, Options{}, shopBroker, trigger)
	h.subscribe("sort"+host, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnprocessableEntity) })
	h.send("1")
	h.deadLetterList(1)
	for gone := false; !gone; { // the event may not be acknowledged yet, and keeps the Broker
		if err := h.Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		_, err := h.store.js.Stream(t.Context(), streamOf(shop))
		gone = errors.Is(err, jetstream.ErrStreamNotFound)
	}
	if err := h.Apply(t.Context(), parse(t, shopBroker, trigger)); err != nil {
		t.Fatal(err)
	}
	h.send("2")
	if d := h.deadLetterList(2)[1]; d.EventID != "2" {
		t.Errorf("the second dead letter is %+v", d)
	}
}

// A disk that is full: events are refused with the reason, what was accepted
// is delivered, and when there is room again all goes on.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	h := newHarness(t, Options{Dir: filepath.Join(dir, "events")}, shopBroker, triggerTo("sort", ""))
	header := map[string]string{"Ce-Specversion": "1.0", "Ce-Source": "/s", "Ce-Type": "t"}
	accepted := 0
	fill := func() *http.Response {
		for {
			header["Ce-Id"] = strconv.Itoa(accepted)
			resp := h.post("/default/shop", header, strings.Repeat("x", 50<<10))
			if resp.StatusCode != http.StatusAccepted {
				return resp
			}
			accepted++
		}
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	resp := fill()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusInsufficientStorage || !bytes.Contains(text, []byte("is full")) || accepted < 20 {
		t.Fatalf("after %d events: %d %s", accepted, resp.StatusCode, text)
	}
	before := accepted
	remove(t, ballast)
	if fill(); accepted == before {
		t.Error("there is room again, and no event is accepted")
	}
	take, got := collect()
	h.subscribe("sort"+host, take)
	ids := map[string]bool{}
	for len(ids) < accepted {
		ids[received(t, got).ID()] = true
	}
}

// What another's server does not carry is too large, now and later.
func TestServerOfSmallMessages(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	h := newHarness(t, Options{NATS: s.ClientURL()}, shopBroker)
	header := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t"}
	if resp := h.post("/default/shop", header, strings.Repeat("x", 100<<10)); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("an event larger than the server's messages: %d", resp.StatusCode)
	}
	h.stop()
}

// A server of one's own, which is restarted while the broker runs.
func TestExternalServer(t *testing.T) {
	store := t.TempDir()
	start := func(port int) *server.Server {
		t.Helper()
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: store, NoSigs: true, NoLog: true, MaxPayload: maxPayload})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("the server is not ready")
		}
		return s
	}
	s := start(server.RANDOM_PORT)
	url := s.ClientURL()
	h := newHarness(t, Options{NATS: url}, shopBroker, triggerTo("sort", ""))
	take, got := collect()
	h.subscribe("sort"+host, take)
	h.send("1")
	received(t, got)
	port := s.Addr().(*net.TCPAddr).Port
	s.Shutdown()
	s.WaitForShutdown()
	s = start(port)
	defer s.Shutdown()
	// Until the connection is there again the sender is told to come back.
	header := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "2", "Ce-Source": "/test", "Ce-Type": "test"}
	for resp := h.post("/default/shop", header, ""); resp.StatusCode != http.StatusAccepted; resp = h.post("/default/shop", header, "") {
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Fatalf("while the server is away: %s", resp.Status)
		}
	}
	for received(t, got).ID() != "2" { // the first may come again
	}
	h.stop()
}
