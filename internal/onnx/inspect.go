package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Kinds of [Port].
const (
	KindTensor   = "tensor"
	KindZipMap   = "zipmap" // one map from key to number a row, as skl2onnx ends its graphs
	KindSequence = "sequence"
	KindMap      = "map"
	KindOptional = "optional"
)

// Info is what a graph says about itself.
type Info struct {
	IRVersion int64
	Opsets    map[string]int64 // version by domain; the domain of the usual operators is ""
	Producer  string
	Inputs    []Port // without those that have a default
	Outputs   []Port
	External  []string // files of its external data, sorted, relative to its folder
	Bytes     int64    // of the file and its external data
}

// Port is an input or an output of a graph.
type Port struct {
	Name     string
	Kind     string
	Datatype string   // of a tensor: the Open Inference Protocol's name; empty where the protocol has none
	Shape    []int64  // -1 where it varies; empty for a scalar, nil where the graph does not say
	Keys     []string // of a zipmap, in the order of its columns
	KeyType  string   // of a zipmap: INT64 or BYTES

	from string // of a zipmap: the tensor [rows, keys] that it is made of
}

// What Inspect takes at most. A graph has tens of ports; the longest names are
// paths in the source.
const (
	maxPorts    = 4096
	maxName     = 64 << 10
	maxKeys     = 1 << 20
	maxExternal = 1 << 16
	maxSubgraph = 32 // graphs within graphs
)

// Newest versions that ONNX Runtime 1.24 reads, which is the oldest one that
// [Init] takes.
const (
	maxIRVersion = 13
	maxOpset     = 25
	maxOpsetML   = 5
)

// Inspect reads the graph at path without running it: neither the runtime nor
// memory for its weights is needed. Its errors say what is wrong with the
// file: that it is no ONNX, is cut off, has no outputs, or needs data that is
// not in its folder. It is safe on any file.
func Inspect(path string) (Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return Info{}, fmt.Errorf("read graph: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Info{}, fmt.Errorf("read graph: %w", err)
	}
	if !st.Mode().IsRegular() {
		return Info{}, fmt.Errorf("graph %s is not a file", path)
	}
	g := inspector{w: window{r: f, size: st.Size()}, external: map[string]int64{}}
	if err := g.model(); err != nil {
		return Info{}, fmt.Errorf("graph %s: %w", path, err)
	}
	g.Bytes = st.Size()
	if err := g.checkExternal(filepath.Dir(path)); err != nil {
		return Info{}, fmt.Errorf("graph %s: %w", path, err)
	}
	return g.Info, nil
}

// Supported says why ONNX Runtime 1.24 does not read a graph of these
// versions; nil means that it does. A newer runtime reads newer ones.
func (i Info) Supported() error {
	if i.IRVersion > maxIRVersion {
		return fmt.Errorf("its format is of IR version %d, and ONNX Runtime 1.24 reads up to %d: export it with an older opset_version, or name a newer runtime in ONNXRUNTIME_LIB", i.IRVersion, maxIRVersion)
	}
	for domain, most := range map[string]int64{"": maxOpset, "ai.onnx": maxOpset, "ai.onnx.ml": maxOpsetML} {
		if v := i.Opsets[domain]; v > most {
			return fmt.Errorf("it uses operator set %d of %s, and ONNX Runtime 1.24 has up to %d: export it with an older opset_version, or name a newer runtime in ONNXRUNTIME_LIB", v, cmp.Or(domain, "ai.onnx"), most)
		}
	}
	return nil
}

// inspector fills Info in. The numbers in its methods are field numbers of
// onnx.proto.
type inspector struct {
	Info
	w        window
	external map[string]int64 // bytes needed of each file of external data
}

func (g *inspector) model() error {
	const lfs = "version https://git-lfs"
	if head, err := g.w.bytes(span{0, min(g.w.size, int64(len(lfs)))}); err == nil && string(head) == lfs {
		return errors.New("it is a Git LFS pointer and not the file itself: run git lfs pull")
	}
	g.Opsets = map[string]int64{}
	var graphs, functions []span
	err := g.w.each(span{0, g.w.size}, func(f field) (err error) {
		switch f.number {
		case 1:
			g.IRVersion = int64(f.value)
		case 2:
			g.Producer, err = g.w.text(f)
		case 7:
			graphs = append(graphs, f.span)
		case 8:
			err = g.opset(f)
		case 25:
			functions = append(functions, f.span)
		}
		if len(graphs)+len(functions)+len(g.Opsets) > maxPorts {
			return errors.New("it has too many parts")
		}
		return err
	})
	switch {
	case errors.Is(err, errTruncated) && len(graphs) == 0 && g.IRVersion == 0, errors.Is(err, errWire):
		return errors.New("it is no ONNX file, or a damaged one")
	case err != nil:
		return err
	case len(graphs) == 0 || g.IRVersion == 0:
		return errors.New("it is no ONNX file: it has no graph")
	}

	for _, graph := range graphs {
		if err := g.ports(graph); err != nil {
			return err
		}
	}
	defaults := map[string]bool{}
	for _, in := range g.Inputs {
		defaults[in.Name] = false
	}
	for _, graph := range graphs {
		if err := g.nodes(graph, 0, defaults); err != nil {
			return err
		}
	}
	for _, function := range functions {
		err := g.w.each(function, func(f field) error {
			if f.number == 7 {
				return g.node(f.span, 1)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	g.Inputs = slices.DeleteFunc(g.Inputs, func(p Port) bool { return defaults[p.Name] })
	if len(g.Outputs) == 0 {
		return errors.New("it has no outputs, so that nothing could be asked of it")
	}
	return nil
}

func (g *inspector) opset(f field) error {
	var domain string
	var version int64
	err := g.w.each(f.span, func(f field) (err error) {
		switch f.number {
		case 1:
			domain, err = g.w.text(f)
		case 2:
			version = int64(f.value)
		}
		return err
	})
	g.Opsets[domain] = version
	return err
}

// ports reads the graph's inputs and outputs, and passes over the rest.
func (g *inspector) ports(graph span) error {
	return g.w.each(graph, func(f field) error {
		if f.number != 11 && f.number != 12 {
			return nil
		}
		p, err := g.port(f.span)
		if err != nil {
			return err
		}
		if f.number == 11 {
			g.Inputs = append(g.Inputs, p)
		} else {
			g.Outputs = append(g.Outputs, p)
		}
		if len(g.Inputs)+len(g.Outputs) > maxPorts {
			return fmt.Errorf("it has more than %d inputs and outputs", maxPorts)
		}
		return nil
	})
}

func (g *inspector) port(value span) (Port, error) {
	p := Port{Kind: KindTensor}
	err := g.w.each(value, func(f field) (err error) {
		switch f.number {
		case 1:
			p.Name, err = g.w.text(f)
		case 2:
			err = g.w.each(f.span, func(f field) error { return g.kind(f, &p) })
		}
		return err
	})
	return p, err
}

// kind reads one field of a TypeProto.
func (g *inspector) kind(f field, p *Port) error {
	switch f.number {
	case 4:
		p.Kind = KindSequence
	case 5:
		p.Kind = KindMap
	case 9:
		p.Kind = KindOptional
	case 1: // a tensor
		return g.w.each(f.span, func(f field) error {
			switch f.number {
			case 1:
				p.Datatype = datatypeOf(int64(f.value))
			case 2:
				p.Shape = []int64{}
				return g.w.each(f.span, func(f field) error {
					if f.number != 1 {
						return nil
					}
					d := int64(-1)
					err := g.w.each(f.span, func(f field) error {
						if f.number == 1 && f.kind == protowire.VarintType && int64(f.value) >= 0 {
							d = int64(f.value)
						}
						return nil
					})
					if p.Shape = append(p.Shape, d); len(p.Shape) > maxPorts {
						return fmt.Errorf("%s has more than %d dimensions", p.Name, maxPorts)
					}
					return err
				})
			}
			return nil
		})
	}
	return nil
}

// nodes looks through a graph, and those within it, for ZipMaps that give an
// output, for external data, and for inputs that have a default.
func (g *inspector) nodes(graph span, depth int, defaults map[string]bool) error {
	if depth > maxSubgraph {
		return fmt.Errorf("it has graphs within graphs, more than %d deep", maxSubgraph)
	}
	return g.w.each(graph, func(f field) error {
		switch f.number {
		case 1:
			return g.node(f.span, depth)
		case 5:
			name, err := g.tensor(f.span)
			if _, ok := defaults[name]; ok && depth == 0 {
				defaults[name] = true
			}
			return err
		case 15: // sparse: values and indices are tensors
			return g.w.each(f.span, func(f field) error {
				if f.number != 1 && f.number != 2 {
					return nil
				}
				_, err := g.tensor(f.span)
				return err
			})
		}
		return nil
	})
}

func (g *inspector) node(node span, depth int) error {
	var op, from, to string
	err := g.w.each(node, func(f field) (err error) {
		switch {
		case f.number == 1 && from == "":
			from, err = g.w.text(f)
		case f.number == 2 && to == "":
			to, err = g.w.text(f)
		case f.number == 4:
			op, err = g.w.text(f)
		case f.number == 5:
			err = g.w.each(f.span, func(f field) error { return g.within(f, depth) })
		}
		return err
	})
	if err != nil || op != "ZipMap" || depth > 0 {
		return err
	}
	i := slices.IndexFunc(g.Outputs, func(p Port) bool { return p.Name == to && p.Kind == KindSequence })
	if i < 0 {
		return nil
	}
	p := &g.Outputs[i]
	p.Kind, p.Datatype, p.from = KindZipMap, FP32, from
	err = g.w.each(node, func(f field) error {
		if f.number != 5 {
			return nil
		}
		return g.keys(f.span, p)
	})
	if err == nil && len(p.Keys) == 0 {
		return fmt.Errorf("the ZipMap that gives %s has no keys", to)
	}
	p.Shape = []int64{-1, int64(len(p.Keys))}
	return err
}

// within looks for external data in the tensors and graphs of an attribute.
func (g *inspector) within(f field, depth int) error {
	switch f.number {
	case 5, 10:
		_, err := g.tensor(f.span)
		return err
	case 6, 11:
		return g.nodes(f.span, depth+1, nil)
	}
	return nil
}

// keys reads the keys from an attribute of a ZipMap.
func (g *inspector) keys(attribute span, p *Port) error {
	var name string
	var keys []string
	err := g.w.each(attribute, func(f field) error {
		switch f.number {
		case 1:
			var err error
			name, err = g.w.text(f)
			return err
		case 8: // integers, packed or not
			return g.w.varints(f, func(v uint64) error {
				keys = append(keys, fmt.Sprint(int64(v)))
				return tooMany(keys)
			})
		case 9:
			s, err := g.w.text(f)
			keys = append(keys, s)
			return cmp.Or(err, tooMany(keys))
		}
		return nil
	})
	switch name {
	case "classlabels_int64s":
		p.Keys, p.KeyType = keys, INT64
	case "classlabels_strings":
		p.Keys, p.KeyType = keys, BYTES
	}
	return err
}

func tooMany(keys []string) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("a ZipMap has more than %d keys", maxKeys)
	}
	return nil
}

// tensor reads a TensorProto's name, and where its data is when that is in
// another file.
func (g *inspector) tensor(tensor span) (name string, err error) {
	var external bool
	place := map[string]string{}
	err = g.w.each(tensor, func(f field) (err error) {
		switch f.number {
		case 8:
			name, err = g.w.text(f)
		case 14:
			external = f.value == 1
		case 13:
			var k, v string
			err = g.w.each(f.span, func(f field) (err error) {
				switch f.number {
				case 1:
					k, err = g.w.text(f)
				case 2:
					v, err = g.w.text(f)
				}
				return err
			})
			if place[k] = v; len(place) > 16 {
				err = fmt.Errorf("tensor %s has too many fields for its external data", name)
			}
		}
		return err
	})
	if err != nil || !external {
		return name, err
	}
	file := place["location"]
	if !filepath.IsLocal(file) {
		return name, fmt.Errorf("the data of tensor %s is in %q, which is not in the graph's folder: put it there, and name it by its file name", name, file)
	}
	end, err := placeEnd(place["offset"], place["length"])
	if err != nil {
		return name, fmt.Errorf("tensor %s in %s: %w", name, file, err)
	}
	file = filepath.Clean(file)
	g.external[file] = max(g.external[file], end)
	if len(g.external) > maxExternal {
		return name, fmt.Errorf("its data is in more than %d files", maxExternal)
	}
	return name, nil
}

// checkExternal looks for the external data in the graph's folder. Links may
// not lead out of it.
func (g *inspector) checkExternal(dir string) error {
	if len(g.external) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	g.External = slices.Sorted(maps.Keys(g.external))
	for _, file := range g.External {
		st, err := root.Stat(file)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("its external data %s is not beside it: copy that file too", file)
		case err != nil:
			return fmt.Errorf("its external data: %w", err)
		case !st.Mode().IsRegular():
			return fmt.Errorf("its external data %s is not a file", file)
		case st.Size() < g.external[file]:
			return fmt.Errorf("its external data %s has %d bytes, and %d are needed: it is cut off", file, st.Size(), g.external[file])
		}
		g.Bytes += st.Size()
	}
	return nil
}
