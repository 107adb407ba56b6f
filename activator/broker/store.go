package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// Bounds of one message in NATS, whose own hard bound is 64 MiB. The header
// has an event's attributes, percent-encoded.
const (
	maxPayload = 60 << 20
	maxHeader  = 1 << 20
)

// storeTimeout bounds one question to the store. Publishing has as long: a
// store that does not answer within it has failed to write.
const storeTimeout = 10 * time.Second

// store is the connection to JetStream and, where it is embedded, the server.
type store struct {
	dir    string // "": the server is another's
	lock   *os.File
	server *server.Server
	log    *serverLog
	nc     *nats.Conn
	js     jetstream.JetStream
	link   atomic.Pointer[link] // never nil
}

// link is one connection to the server; the next one is made when it breaks.
type link struct{ lost chan struct{} } // closed when the next one is there

func (s *store) relinked(*nats.Conn) {
	close(s.link.Swap(&link{make(chan struct{})}).lost)
}

func openStore(ctx context.Context, o Options) (s *store, err error) {
	s = &store{}
	s.link.Store(&link{make(chan struct{})})
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s = nil
		}
	}()
	opts := []nats.Option{nats.Name("aisle broker"), nats.MaxReconnects(-1), nats.PingInterval(10 * time.Minute), nats.ReconnectHandler(s.relinked)}
	if o.NATS == "" {
		if err := s.start(o); err != nil {
			return s, err
		}
		opts = append(opts, nats.InProcessServer(s.server))
	}
	if s.nc, err = nats.Connect(o.NATS, opts...); err != nil {
		return s, fmt.Errorf("open the broker: connect to NATS %s: %w", o.NATS, err)
	}
	if s.js, err = jetstream.New(s.nc, jetstream.WithDefaultTimeout(storeTimeout), jetstream.WithPublishAsyncTimeout(storeTimeout), jetstream.WithPublishAsyncMaxPending(math.MaxInt32)); err != nil {
		return s, fmt.Errorf("open the broker: %w", err)
	}
	if _, err = s.js.AccountInfo(ctx); err != nil {
		return s, fmt.Errorf("open the broker: the NATS server %s has no JetStream for us: %w", o.NATS, err)
	}
	return s, s.complete(ctx)
}

// complete is nil if the embedded server has all streams and consumers whose
// directories are there. It leaves out what it cannot read, and would begin it
// anew.
func (s *store) complete(ctx context.Context) error {
	streams, err := filepath.Glob(filepath.Join(s.dir, "jetstream", "*", "streams", "*"))
	if s.dir == "" || err != nil {
		return err
	}
	damaged := func(dir string, err error) error {
		if _, serr := os.Stat(filepath.Join(dir, server.JetStreamMetaFileSum)); errors.Is(serr, fs.ErrNotExist) {
			return nil // its making was not finished
		}
		return fmt.Errorf("open the broker: what is in %s cannot be read (%w; the store says: %s); bring it back from a copy, or move it away to go on without its events", dir, err, s.log.last())
	}
	for _, dir := range streams {
		st, err := s.js.Stream(ctx, filepath.Base(dir))
		if err != nil {
			if err := damaged(dir, err); err != nil {
				return err
			}
			continue
		}
		consumers, err := filepath.Glob(filepath.Join(dir, "obs", "trigger_*"))
		if err != nil {
			return err
		}
		for _, dir := range consumers {
			if _, err := st.Consumer(ctx, filepath.Base(dir)); err != nil {
				if err := damaged(dir, err); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// start starts the embedded server: no listener, no monitoring, one account.
func (s *store) start(o Options) error {
	if err := s.take(o.Dir); err != nil {
		return err
	}
	s.log = &serverLog{log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler))}
	srv, err := server.NewServer(&server.Options{
		ServerName: "aisle", DontListen: true, NoSigs: true, NoSystemAccount: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: o.Dir, SyncAlways: o.SyncAlways,
		JetStreamMaxMemory: 16 << 20, JetStreamMaxStore: math.MaxInt64, // each stream has its own bound
		MaxPayload: maxPayload, MaxPending: 16 * maxPayload, // large events that are fetched at once are no slow consumer's
	})
	if err != nil {
		return fmt.Errorf("open the broker: %w", err)
	}
	srv.SetLoggerV2(s.log, false, false, false)
	s.server = srv
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) || !srv.JetStreamEnabled() {
		return fmt.Errorf("open the broker: its store in %s cannot be used: %s", o.Dir, cmp.Or(s.log.last(), "it was not ready within a minute"))
	}
	return nil
}

// take makes the directory and locks it for this process.
func (s *store) take(dir string) error {
	if dir == "" {
		return errors.New("open the broker: neither Dir nor NATS is given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("open the broker: make the directory of its store: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			return fmt.Errorf("open the broker: its store must be written to: %w", err)
		}
		return fmt.Errorf("open the broker: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return fmt.Errorf("open the broker: another process uses the store in %s; stop it, or choose another directory", dir)
	}
	s.dir, s.lock = dir, f
	return nil
}

func (s *store) close() error {
	if s.nc != nil {
		s.nc.Close()
	}
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
	if s.lock != nil {
		return s.lock.Close()
	}
	return nil
}

// serverLog gives the embedded server's log to ours, and remembers the last
// complaint for who asks why it does not work.
type serverLog struct {
	log  *slog.Logger
	said atomic.Pointer[string]
}

// last is what the server complained of last; an external server, whose log is
// its own, says nothing.
func (l *serverLog) last() string {
	if l == nil {
		return ""
	}
	if s := l.said.Load(); s != nil {
		return *s
	}
	return ""
}

func (l *serverLog) complain(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	l.said.Store(&text)
	l.log.Log(context.Background(), level, "the events' store", "says", text)
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("the events' store", "says", fmt.Sprintf(format, v...))
}
func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
func (l *serverLog) Warnf(format string, v ...any) {
	switch text := fmt.Sprintf(format, v...); {
	case strings.HasPrefix(format, "Maximum payloads over"): // we know
	case strings.Contains(text, "will rebuild"), strings.Contains(text, "index errored: prior state file"):
		// It reads events that were stored since it last wrote its index: every
		// engine that is killed leaves them.
		l.log.Debug("the events' store", "says", text)
	default:
		l.complain(slog.LevelWarn, format, v)
	}
}
func (l *serverLog) Errorf(format string, v ...any) { l.complain(slog.LevelError, format, v) }
func (l *serverLog) Fatalf(format string, v ...any) { l.complain(slog.LevelError, format, v) }

// openStream gives a stream as cfg says. It is not written where it is so
// already: a kill in the midst of that would leave it unreadable.
func (s *store) openStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.StreamState, error) {
	st, err := s.js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && st.CachedInfo().Config.MaxBytes != cfg.MaxBytes {
		st, err = s.js.CreateOrUpdateStream(ctx, cfg)
	}
	if err != nil {
		return jetstream.StreamState{}, fmt.Errorf("open the stream of %s: %w", cfg.Description, err)
	}
	return st.CachedInfo().State, nil
}

// openConsumer is likewise.
func (s *store) openConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) error {
	c, err := s.js.Consumer(ctx, stream, cfg.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || err == nil && (c.CachedInfo().Config.AckWait != cfg.AckWait || c.CachedInfo().Config.MaxAckPending != cfg.MaxAckPending) {
		_, err = s.js.CreateOrUpdateConsumer(ctx, stream, cfg)
	}
	if err != nil {
		return fmt.Errorf("open the consumer of %s: %w", cfg.Description, err)
	}
	return nil
}

// Names in the store. A namespace has neither dots nor underscores, and no
// name has an underscore, so that the names of two objects never meet.
const (
	brokerPrefix      = "broker_"
	deadLetterStream  = "deadletters"
	deadLetterSubject = "aisle.deadletters"

	// What streams and consumers are of, before NAMESPACE/NAME.
	brokerDescription  = "Broker "
	triggerDescription = "Trigger "
)

func token(n types.NamespacedName) string {
	return n.Namespace + "_" + strings.ReplaceAll(n.Name, ".", "_")
}

func streamOf(broker types.NamespacedName) string    { return brokerPrefix + token(broker) }
func subjectOf(broker types.NamespacedName) string   { return "aisle.events." + token(broker) }
func consumerOf(trigger types.NamespacedName) string { return "trigger_" + token(trigger) }
