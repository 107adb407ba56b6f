// Package servable loads what a classifier can serve: a model package, or a
// bare ONNX file, held to what the graph in it says about itself.
//
// Guarantees: what [Load] returns has every input that the graph wants, under
// its name, with its datatype, and outputs that the graph has; nothing is run,
// and ONNX Runtime is not needed.
//
// Non-goals: whether the runtime can run the graph, and whether it answers
// well: `aisle model validate` tries both.
package servable

import (
	"fmt"
	"slices"
	"strings"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
)

// Load reads the package or the .onnx file at path.
func Load(path string) (*model.Package, error) {
	p, err := model.Load(path)
	if err != nil {
		return nil, err
	}
	info, err := onnx.Inspect(p.Graph)
	if err != nil {
		return nil, err
	}
	problems := Check(p, info)
	switch len(problems) {
	case 0:
		return p, nil
	case 1:
		return nil, fmt.Errorf("model %s does not fit its graph: %w", path, problems[0])
	}
	return nil, fmt.Errorf("model %s does not fit its graph: %w (and %d more; `aisle model validate` lists them)", path, problems[0], len(problems)-1)
}

// Check says what of p does not fit its graph. A bare graph's inputs and
// outputs are declared in p, as the graph has them.
func Check(p *model.Package, info onnx.Info) []error {
	var problems []error
	if err := info.Supported(); err != nil {
		problems = append(problems, err)
	}
	s := p.Spec
	if s.Preprocess.Kind == model.None && len(s.Inputs) == 0 {
		return append(problems, declare(p, info)...)
	}
	problems = append(problems, external(s, info)...)
	for _, in := range s.Inputs {
		i := slices.IndexFunc(info.Inputs, func(g onnx.Port) bool { return g.Name == in.Name })
		if i < 0 {
			problems = append(problems, fmt.Errorf("input %q: the graph has none of that name, but %s", in.Name, names(info.Inputs)))
			continue
		}
		problems = append(problems, compare("input", in, info.Inputs[i])...)
	}
	for _, g := range info.Inputs {
		if !slices.Contains(s.InputNames(), g.Name) {
			problems = append(problems, fmt.Errorf("input %q (%s): the graph wants it, and inputs does not name it", g.Name, describe(g)))
		}
	}
	for _, out := range s.Outputs {
		i := slices.IndexFunc(info.Outputs, func(g onnx.Port) bool { return g.Name == out.Name })
		if i < 0 {
			problems = append(problems, fmt.Errorf("output %q: the graph has none of that name, but %s", out.Name, names(info.Outputs)))
			continue
		}
		problems = append(problems, output(p, out, info.Outputs[i])...)
	}
	return problems
}

// external holds the files of weights that the package pins to those that the
// graph reads.
func external(s model.Spec, info onnx.Info) []error {
	var problems []error
	pinned := make([]string, len(s.ExternalData))
	for i, f := range s.ExternalData {
		pinned[i] = f.File
		if !slices.Contains(info.External, f.File) {
			problems = append(problems, fmt.Errorf("externalData: the graph does not read %s: leave it out", f.File))
		}
	}
	for _, f := range info.External {
		if !slices.Contains(pinned, f) {
			problems = append(problems, fmt.Errorf("externalData: the graph reads weights from %s, which is not pinned: add it", f))
		}
	}
	return problems
}

func output(p *model.Package, out model.Output, g onnx.Port) []error {
	zipmap := out.Kind == model.ZipMap
	switch {
	case zipmap && g.Kind != onnx.KindZipMap:
		return []error{fmt.Errorf("output %q is declared as zipmap; in the graph it is %s", out.Name, describe(g))}
	case !zipmap && g.Kind == onnx.KindZipMap:
		return []error{fmt.Errorf("output %q is a ZipMap in the graph: declare it with kind: zipmap, and shape [-1, %d]", out.Name, len(g.Keys))}
	case !zipmap:
		return compare("output", out.Tensor, g)
	case len(p.Keys) == 0 || slices.Equal(p.Keys, g.Keys):
		return nil
	}
	for i, key := range g.Keys {
		if i >= len(p.Keys) || p.Keys[i] != key {
			return []error{fmt.Errorf("%s: label %d must be %q, the ZipMap's key: the labels are the graph's, in its order (labelMap renames them)", p.Spec.Labels.File, i+1, key)}
		}
	}
	return []error{fmt.Errorf("%s has %d labels; output %q has %d keys", p.Spec.Labels.File, len(p.Keys), out.Name, len(g.Keys))}
}

// compare holds what is declared to what the graph has. What varies in the
// graph may be declared as fixed, not the other way round.
func compare(what string, t model.Tensor, g onnx.Port) []error {
	if g.Kind != onnx.KindTensor {
		return []error{fmt.Errorf("%s %q is %s in the graph; tensors are served", what, t.Name, describe(g))}
	}
	var problems []error
	if t.Datatype != g.Datatype {
		problems = append(problems, fmt.Errorf("%s %q is declared as %s; in the graph it is %s", what, t.Name, t.Datatype, describe(g)))
	}
	fits := g.Shape == nil || len(t.Shape) == len(g.Shape)
	for i := 0; fits && i < len(g.Shape); i++ {
		fits = g.Shape[i] == -1 || g.Shape[i] == t.Shape[i]
	}
	if !fits {
		hint := ""
		if len(t.Shape) > 0 && len(g.Shape) == len(t.Shape) && t.Shape[0] == -1 && g.Shape[0] != -1 {
			hint = "; export the graph with a first dimension that varies, or declare 1 there and batchSizes [1]"
		}
		problems = append(problems, fmt.Errorf("%s %q is declared as %v; in the graph it is %v%s", what, t.Name, t.Shape, g.Shape, hint))
	}
	return problems
}

// declare tells a bare graph's package what the graph has. Outputs of kinds
// that no protocol can carry are left out.
func declare(p *model.Package, info onnx.Info) []error {
	var problems []error
	inputs := make([]model.Tensor, len(info.Inputs))
	for i, g := range info.Inputs {
		if g.Kind != onnx.KindTensor || g.Datatype == "" {
			problems = append(problems, fmt.Errorf("input %q is %s; tensors of the Open Inference Protocol's datatypes are served", g.Name, describe(g)))
		}
		inputs[i] = model.Tensor{Name: g.Name, Datatype: g.Datatype, Shape: g.Shape}
	}
	var outputs []model.Output
	for _, g := range info.Outputs {
		switch {
		case g.Kind == onnx.KindTensor && g.Datatype != "":
			outputs = append(outputs, model.Output{Tensor: model.Tensor{Name: g.Name, Datatype: g.Datatype, Shape: g.Shape}, Kind: model.Dense})
		case g.Kind == onnx.KindZipMap:
			outputs = append(outputs, model.Output{Tensor: model.Tensor{Name: g.Name, Datatype: "FP32", Shape: []int64{-1, int64(len(g.Keys))}}, Kind: model.ZipMap})
		}
	}
	if len(inputs) == 0 || len(outputs) == 0 {
		problems = append(problems, fmt.Errorf("the graph has %d inputs, and %d outputs that can be served: want one of each at least", len(inputs), len(outputs)))
	}
	if len(problems) > 0 {
		return problems
	}
	if err := p.Declare(inputs, outputs); err != nil {
		return []error{err}
	}
	return nil
}

// describe words what a port of a graph is.
func describe(g onnx.Port) string {
	switch {
	case g.Kind == onnx.KindZipMap:
		return fmt.Sprintf("a ZipMap of %d keys", len(g.Keys))
	case g.Kind != onnx.KindTensor:
		return "a value of kind " + g.Kind
	case g.Datatype == "":
		return "a tensor of a type that no protocol has"
	case g.Shape == nil:
		return g.Datatype
	}
	return fmt.Sprintf("%s %v", g.Datatype, g.Shape)
}

func names(ports []onnx.Port) string {
	if len(ports) == 0 {
		return "none at all"
	}
	all := make([]string, 0, len(ports))
	for i, p := range ports {
		if i == 8 {
			all = append(all, fmt.Sprintf("%d more", len(ports)-i))
			break
		}
		all = append(all, fmt.Sprintf("%.80q (%s)", p.Name, describe(p)))
	}
	return strings.Join(all, ", ")
}
