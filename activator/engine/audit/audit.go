// Package audit keeps the record of what changed the bounds of services, and
// who or what did it: one line of JSON for each change.
//
// Guarantees: what [Log.Write] has returned for is on the disk. A line that was
// cut by a crash costs that line alone. The record is bounded: two files of
// [MaxFile] bytes each, of which the older one goes. What held last for a
// service is known at the next start ([Log.Last]), so that a change that came
// while nothing ran can be told of; so is when it was last bounded by hand, and
// by which events ([Log.Hand]).
//
// Non-goals: it is no store of bounds (the ScalingSchedules are) and no proof
// against who owns the folder.
package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"aisle.dev/aisle/internal/scaling"
)

// Name is the record's file in the data directory; the older one has ".1"
// behind it.
const Name = "audit.log"

// Bounds of the record.
const (
	MaxFile = 4 << 20 // bytes of one file
	maxText = 1 << 10 // bytes of one text of an entry
	maxLine = 16 << 10

	maxEvents = 64 // remembered of a service
)

// Way is how a change came about.
type Way string

// The ways.
const (
	Clock   Way = "clock"   // a window began or ended, a floor was raised early, a schedule expired
	Socket  Way = "socket"  // somebody at the engine's socket
	TCP     Way = "tcp"     // the holder of a token
	Event   Way = "event"   // a CloudEvent
	Start   Way = "start"   // while no engine ran, or by what its folder says
	Rollout Way = "rollout" // the service's own bounds, by another revision
)

// Bounds are what holds for a service.
type Bounds struct {
	Floor  int  `json:"floor"`
	Cap    int  `json:"cap"` // 0: none
	Closed bool `json:"closed,omitempty"`
}

// String says how many pods a service may have: "1 to 4", "1 or more", "closed".
func (b Bounds) String() string {
	if b.Closed {
		return "closed"
	}
	if b.Cap == 0 {
		return fmt.Sprintf("%d or more", b.Floor)
	}
	if b.Floor == b.Cap {
		return fmt.Sprint(b.Floor)
	}
	return fmt.Sprintf("%d to %d", b.Floor, b.Cap)
}

// Entry is one change.
type Entry struct {
	Time      time.Time `json:"time"`
	Namespace string    `json:"namespace"`
	Service   string    `json:"service"`
	Way       Way       `json:"way"`
	By        string    `json:"by,omitempty"`       // who: "uid 1000", a token's name, an event's source
	Did       string    `json:"did"`                // what happened: "title-hours: window office begins"
	Schedule  string    `json:"schedule,omitempty"` // the ScalingSchedule that it happened to
	Old       Bounds    `json:"old"`                // of the service, by all that bounds it
	New       Bounds    `json:"new"`
	Reason    string    `json:"reason,omitempty"`
	Until     time.Time `json:"until,omitzero"`  // when what was set expires
	Event     string    `json:"event,omitempty"` // which event did it
}

// Hand is what is known of a service's being bounded by hand.
type Hand struct {
	Changed time.Time // when somebody last set something, or took it back
	Events  []string  // the last events that did, the newest last
}

// held is what the record says of a service as a whole.
type held struct {
	bounds Bounds // the New of its last entry
	hand   Hand
}

// Log is the record. It may be used by any number of goroutines.
type Log struct {
	path string
	max  int64

	mu   sync.Mutex // guards what follows
	file *os.File   // nil: it could not be begun anew, and is with the next entry
	size int64
	cut  bool               // its last line may have no end
	of   map[[2]string]held // by namespace and service
}

// Open opens the record in a folder, and begins it where there is none.
func Open(dir string) (*Log, error) { return open(dir, MaxFile) }

func open(dir string, limit int64) (*Log, error) {
	l := &Log{path: filepath.Join(dir, Name), max: limit, of: map[[2]string]held{}}
	files, err := l.files()
	for _, f := range files {
		err = errors.Join(err, eachLine(f, l.learn), f.Close())
	}
	if err == nil {
		err = l.begin()
	}
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	return l, nil
}

// learn takes in an entry. REQUIRES: l.mu is held, or nobody else knows of l.
func (l *Log) learn(e Entry) {
	key := [2]string{e.Namespace, e.Service}
	h := l.of[key]
	h.bounds = e.New
	if e.Schedule == scaling.HandName(e.Service) && e.Way != Clock && e.Way != Start {
		h.hand.Changed = e.Time
		if e.Event != "" {
			// A new slice: who has asked for the old one keeps it.
			h.hand.Events = append(slices.Clone(h.hand.Events[max(0, len(h.hand.Events)-maxEvents+1):]), e.Event)
		}
	}
	l.of[key] = h
}

// begin opens the newer file to write at its end.
func (l *Log) begin() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	end := []byte{'\n'}
	if info.Size() > 0 {
		if _, err := f.ReadAt(end, info.Size()-1); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	l.file, l.size, l.cut = f, info.Size(), end[0] != '\n'
	return nil
}

// Write records changes, all of them by one write and one sync: at midnight
// many windows begin.
func (l *Log) Write(entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var text bytes.Buffer
	for _, e := range entries {
		for _, s := range []*string{&e.Namespace, &e.Service, &e.By, &e.Did, &e.Schedule, &e.Reason, &e.Event} {
			if len(*s) > maxText {
				*s = strings.ToValidUTF8((*s)[:maxText], "") + "…"
			}
		}
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write the audit log: %w", err)
		}
		text.Write(append(line, '\n'))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.learn(e)
	}
	if err := l.append(text.Bytes()); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// append writes whole lines. REQUIRES: l.mu is held.
func (l *Log) append(text []byte) error {
	if l.file != nil && l.size > 0 && l.size+int64(len(text)) > l.max {
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return err
		}
		err := l.file.Close()
		if l.file = nil; err != nil {
			return err
		}
	}
	if l.file == nil {
		if err := l.begin(); err != nil {
			return err
		}
	}
	if l.cut { // by a crash or a full disk: what comes next is on a line of its own
		text = append([]byte{'\n'}, text...)
	}
	n, err := l.file.Write(text)
	l.size, l.cut = l.size+int64(n), n > 0 && text[n-1] != '\n' || n == 0 && l.cut
	if err == nil {
		err = l.file.Sync()
	}
	return err
}

// Last is what held for a service after its last entry; false: it has none.
func (l *Log) Last(namespace, service string) (Bounds, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.of[[2]string{namespace, service}]
	return h.bounds, ok
}

// Hand is how a service was bounded by hand, as far back as the record goes.
func (l *Log) Hand(namespace, service string) Hand {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[[2]string{namespace, service}].hand
}

// Read gives the last entries, the newest first, of one service or, where that
// is empty, of all; at most limit. Nobody waits for it: an entry that is written
// meanwhile may be among them.
func (l *Log) Read(namespace, service string, limit int) ([]Entry, error) {
	files, err := l.files()
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	var all []Entry // the oldest first, never more than twice the limit
	for _, f := range files {
		err = errors.Join(err, eachLine(f, func(e Entry) {
			if namespace != "" && e.Namespace != namespace || service != "" && e.Service != service {
				return
			}
			if all = append(all, e); len(all) >= 2*limit {
				all = slices.Delete(all, 0, len(all)-limit)
			}
		}), f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	if len(all) > limit {
		all = all[len(all)-limit:]
	}
	slices.Reverse(all)
	return all, nil
}

// files opens what there is of the two files, the older one first. Under the
// lock, since a file that is begun anew gives its name to the other.
func (l *Log) files() (all []*os.File, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, path := range []string{l.path + ".1", l.path} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			for _, f := range all {
				err = errors.Join(err, f.Close())
			}
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// eachLine passes over lines that are none of ours.
func eachLine(r io.Reader, take func(Entry)) error {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, long, err := lines.ReadLine()
		for tail := long; tail && err == nil; { // too long to be ours
			_, tail, err = lines.ReadLine()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e Entry
		if !long && json.Unmarshal(line, &e) == nil && e.Service != "" {
			take(e)
		}
	}
}

// Close ends the record for this process.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
