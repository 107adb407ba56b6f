package usage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/activator/engine/durable"
)

// Bounds of what is kept.
const (
	MaxDays     = 400    // the newest ones
	MaxServices = 10_000 // in a day

	maxFile   = 8 << 20                 // bytes: what as many services need, and more
	maxAmount = 10_000 * 24 * time.Hour // of a service in a day: sums do not overflow
)

// Others is the service under which is counted what a day has beyond
// MaxServices.
const Others = "others/others"

const (
	ending  = ".json"
	damaged = ".damaged" // beside a day's file: one that could not be read
)

// day is what services used on one day. The meter's mu guards it.
type day struct {
	services map[string]Amount
	changed  bool // since it was written
}

// file is a day on the disk.
type file struct {
	Day      string            `json:"day"`
	Services map[string]Amount `json:"services"`
}

func (d *day) add(service string, a Amount) {
	if _, known := d.services[service]; !known && len(d.services) >= MaxServices {
		service = Others
	}
	d.services[service] = d.services[service].plus(a)
	d.changed = true
}

// Open makes a meter that keeps its files in a folder, which is made if it is
// missing. Nobody else may use it.
func Open(dir string, clock Clock, log *slog.Logger) (*Meter, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the record of usage: %w", err)
	}
	return &Meter{dir: dir, clock: clock, log: log, accounts: map[string]*account{}, days: map[string]*day{}}, nil
}

// day is the one of that name, from the disk if it is not at hand. REQUIRES: mu
// is held.
func (m *Meter) day(name string) *day {
	if d := m.days[name]; d != nil {
		return d
	}
	d := &day{services: m.load(name)}
	if d.services == nil {
		d.services = map[string]Amount{}
	}
	m.days[name] = d
	return d
}

// load reads a day's file, and sets aside one that it cannot read; nil: there
// is none.
func (m *Meter) load(name string) map[string]Amount {
	path := filepath.Join(m.dir, name+ending)
	services, err := read(path, name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return services
	}
	aside := filepath.Join(m.dir, name+damaged)
	if moved := os.Rename(path, aside); moved != nil {
		err = errors.Join(err, moved)
	}
	m.log.Error("what services used on a day cannot be read; its file is set aside and the day counted anew", "day", name, "file", aside, "err", err)
	return nil
}

func read(path, name string) (map[string]Amount, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return parse(text, name)
}

// parse reads a day's file.
func parse(text []byte, name string) (map[string]Amount, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	var in file
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("something follows what is its end")
	}
	if in.Day != name {
		return nil, fmt.Errorf("it is of the day %q", in.Day)
	}
	if len(in.Services) > MaxServices+1 {
		return nil, fmt.Errorf("it has more than %d services", MaxServices)
	}
	for service, a := range in.Services {
		if min(a.Pods, a.GPUs, a.Declared, a.DeclaredGPUs, a.Floor) < 0 || min(a.Peak, a.PeakFloor) < 0 {
			return nil, fmt.Errorf("%.80q has used less than nothing", service)
		}
		if max(a.Pods, a.GPUs, a.Declared, a.DeclaredGPUs, a.Floor) > maxAmount {
			return nil, fmt.Errorf("%.80q has used more than a machine can in a day", service)
		}
	}
	return in.Services, nil
}

// write counts up to now and writes the days that have changed. It reports
// whether the disk has all of them.
func (m *Meter) write() bool {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	for _, a := range m.accounts {
		m.settle(a)
	}
	texts := map[string][]byte{}
	var errs []error
	for name, d := range m.days {
		if !d.changed {
			continue
		}
		text, err := json.Marshal(file{name, d.services})
		if err != nil {
			errs = append(errs, err) // never: it is numbers and names
			continue
		}
		texts[name], d.changed = append(text, '\n'), false
	}
	m.mu.Unlock()

	fresh := false
	for name, text := range texts {
		path := filepath.Join(m.dir, name+ending)
		_, err := os.Stat(path)
		fresh = fresh || err != nil
		if err := durable.Replace(path, text); err != nil {
			errs = append(errs, err)
			delete(texts, name)
			m.mu.Lock()
			m.days[name].changed = true
			m.mu.Unlock()
		}
	}
	if fresh {
		errs = append(errs, m.prune())
	}
	m.mu.Lock()
	last := slices.Max(append(slices.Collect(maps.Keys(m.days)), ""))
	maps.DeleteFunc(m.days, func(name string, d *day) bool { return !d.changed && name != last })
	m.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		m.log.Error("what services used is not on the disk; it is tried again", "folder", m.dir, "err", err)
		return false
	}
	return true
}

// prune removes the oldest days. How old a day is does not count, but how many
// newer ones there are: a clock that is wrong for a moment removes nothing.
func (m *Meter) prune() error {
	for _, kind := range []string{ending, damaged} {
		names, err := m.names(kind)
		if err != nil {
			return err
		}
		for _, name := range names[:max(0, len(names)-MaxDays)] {
			if err := os.Remove(filepath.Join(m.dir, name+kind)); err != nil {
				return err
			}
		}
	}
	return nil
}

// names lists the days of which there is a file, the oldest first.
func (m *Meter) names(kind string) ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), kind)
		if _, err := time.Parse(time.DateOnly, name); ok && err == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Day is what services, by namespace/name, used on a day.
type Day struct {
	Date     string // UTC, 2026-11-23
	Services map[string]Amount
	Damaged  bool // some of it was in a file that could not be read
}

// Read gives the days of which something is known from one date to another,
// both included, the oldest first and one after the other: no more than the days
// at hand and one of the disk's are held. It counts up to now. An error is the
// last that it gives.
func (m *Meter) Read(from, to string) iter.Seq2[Day, error] {
	return func(yield func(Day, error) bool) {
		hand := map[string]map[string]Amount{}
		m.mu.Lock()
		for _, a := range m.accounts {
			m.settle(a)
		}
		if len(m.accounts) > 0 {
			m.due()
		}
		for name, d := range m.days {
			hand[name] = maps.Clone(d.services)
		}
		m.mu.Unlock()
		all := slices.Collect(maps.Keys(hand))
		for _, kind := range []string{ending, damaged} {
			names, err := m.names(kind)
			if err != nil {
				yield(Day{}, fmt.Errorf("read the record of usage: %w", err))
				return
			}
			all = append(all, names...)
		}
		slices.Sort(all)
		for _, name := range slices.Compact(all) {
			if name < from || name > to {
				continue
			}
			services, have := hand[name] // newer than its file
			if !have {
				m.writing.Lock()
				services = m.load(name)
				m.writing.Unlock()
			}
			_, err := os.Stat(filepath.Join(m.dir, name+damaged)) // which load may have made
			if !yield(Day{Date: name, Services: services, Damaged: err == nil}, nil) {
				return
			}
		}
	}
}
