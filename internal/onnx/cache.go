package onnx

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	ort "github.com/yalue/onnxruntime_go"
)

// cache keeps graphs as the runtime has optimised them, which for one of some
// twenty convolutions takes it longer than all else that it does to load it.
// What is optimised fits one graph, one type of processor and one version of
// the runtime: all three are in a file's name, with a checksum of its bytes. A
// file that is damaged is as good as none.
//
// The folder is as trusted as the graphs themselves: whoever can write to it
// can change what a model answers.
type cache struct {
	dir string
	key string // of the graph that is opened
}

// Bounds of a cache's folder.
const (
	maxCached      = 32
	maxCachedBytes = 256 << 20 // of one graph
	abandoned      = time.Hour // after which an unfinished file is no other process's any more
)

// newCache is the cache in dir for the graph of a digest, or nil where nothing
// can be cached: for graphs with parts elsewhere than in their file.
func newCache(o Options, info Info, tail []byte) *cache {
	if o.CacheDir == "" || o.Digest == "" || len(info.External) > 0 || tail != nil {
		return nil
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", strings.TrimPrefix(o.Digest, "sha256:"), Version(), processor())
	return &cache{o.CacheDir, fmt.Sprintf("%x", h.Sum(nil)[:16])}
}

// processor names the type of the processor, with what it can do.
func processor() string {
	name := runtime.GOARCH
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return name
	}
	defer f.Close()
	first, _ := io.ReadAll(io.LimitReader(f, 16<<10)) // the first core's paragraph has some 2 KB
	first, _, _ = bytes.Cut(first, []byte("\n\n"))
	for line := range strings.Lines(string(first)) {
		switch field, _, _ := strings.Cut(line, "\t"); field {
		case "vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer", "CPU variant", "CPU part":
			name += "\n" + strings.TrimSpace(line)
		}
	}
	return name
}

// load gives the cached graph; nil if there is none that is whole.
func (c *cache) load() []byte {
	for _, path := range c.files() {
		if st, err := os.Stat(path); err == nil && st.Size() <= maxCachedBytes {
			if graph, err := os.ReadFile(path); err == nil && filepath.Base(path) == c.name(graph) {
				return graph
			}
		}
		_ = os.Remove(path)
	}
	return nil
}

// forget removes what is cached for the graph.
func (c *cache) forget() {
	for _, path := range c.files() {
		_ = os.Remove(path)
	}
}

// files are those cached for the graph: one, or none.
func (c *cache) files() []string {
	entries, _ := os.ReadDir(c.dir)
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), c.key+"-") {
			paths = append(paths, filepath.Join(c.dir, e.Name()))
		}
	}
	return paths
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (c *cache) name(graph []byte) string {
	return fmt.Sprintf("%s-%d-%08x.onnx", c.key, len(graph), crc32.Checksum(graph, castagnoli))
}

// session opens the graph at path: as it is cached, or from its file, and then
// caches it. That the cache cannot be written to is no reason not to.
func (c *cache) session(path string, o Options, so *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
	if graph := c.load(); graph != nil {
		plain, err := options(o)
		if err != nil {
			return nil, err
		}
		defer func() { _ = plain.Destroy() }()
		if err := plain.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll); err != nil {
			return nil, err
		}
		if s, err := ort.NewDynamicAdvancedSessionWithONNXData(graph, o.Inputs, o.Outputs, plain); err == nil {
			return s, nil
		}
		c.forget()
	}
	room, err := c.room()
	if err != nil {
		return newSession(path, nil, o.Inputs, o.Outputs, so)
	}
	defer os.Remove(room)
	if err := so.SetOptimizedModelFilePath(room); err != nil {
		return nil, err
	}
	s, err := newSession(path, nil, o.Inputs, o.Outputs, so)
	if err == nil && digest(path) == strings.TrimPrefix(o.Digest, "sha256:") { // else another file was there
		c.keep(room)
	}
	return s, err
}

// digest is that of a file, in hexadecimal; empty if it cannot be read.
func digest(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// room gives the name of a file that the runtime may write to.
func (c *cache) room() (string, error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return "", err
	}
	c.trim()
	f, err := os.CreateTemp(c.dir, "unfinished-*.tmp")
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// keep makes the file at path, which the runtime has written, the cached graph,
// if it is fit for that.
func (c *cache) keep(path string) {
	st, err := os.Stat(path)
	if err != nil || st.Size() == 0 || st.Size() > maxCachedBytes {
		return
	}
	// The runtime may put large weights into another file, beside this one.
	if info, err := Inspect(path); err != nil || len(info.External) > 0 {
		return
	}
	if graph, err := os.ReadFile(path); err == nil {
		_ = os.Rename(path, filepath.Join(c.dir, c.name(graph)))
	}
}

// trim makes room for one more file, the oldest first.
func (c *cache) trim() {
	entries, _ := os.ReadDir(c.dir)
	var whole []os.FileInfo
	for _, e := range entries {
		st, err := e.Info()
		switch {
		case err != nil:
		case strings.HasSuffix(e.Name(), ".tmp") && time.Since(st.ModTime()) > abandoned:
			_ = os.Remove(filepath.Join(c.dir, e.Name()))
		case strings.HasSuffix(e.Name(), ".onnx"):
			whole = append(whole, st)
		}
	}
	slices.SortFunc(whole, func(a, b os.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for i, st := range whole {
		if i >= maxCached-1 {
			_ = os.Remove(filepath.Join(c.dir, st.Name()))
		}
	}
}
