package trial

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"aisle.dev/aisle/internal/onnx"
)

// Description is what can be said of a model without running it.
type Description struct {
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	Description string   `json:"description,omitempty"`
	Digest      string   `json:"digest"`
	File        string   `json:"file"` // the graph's
	Preprocess  string   `json:"preprocess"`
	Reads       []string `json:"reads,omitempty"`
	Labels      []string `json:"labels,omitempty"` // the answer's
	Activation  string   `json:"activation,omitempty"`
	Temperature float64  `json:"temperature,omitempty"`
	BatchSizes  []int    `json:"batchSizes"`
	Examples    int      `json:"examples,omitempty"`
	Graph       *Graph   `json:"graph,omitempty"`
	Product     *Input   `json:"product,omitempty"`
	Problems    []string `json:"problems,omitempty"`
}

// Graph is what the ONNX file says about itself.
type Graph struct {
	Bytes     int64            `json:"bytes"`
	IRVersion int64            `json:"irVersion"`
	Opsets    map[string]int64 `json:"opsets"` // by domain; ai.onnx is the usual one
	Producer  string           `json:"producer,omitempty"`
	External  []string         `json:"externalData,omitempty"`
	Inputs    []Port           `json:"inputs"`
	Outputs   []Port           `json:"outputs"`
}

// Port is an input or output of the graph.
type Port struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Datatype string   `json:"datatype,omitempty"`
	Shape    []int64  `json:"shape,omitempty"`
	Keys     []string `json:"keys,omitempty"` // of a ZipMap
}

// Words say the port's type.
func (p Port) Words() string {
	switch {
	case p.Kind == onnx.KindZipMap:
		return fmt.Sprintf("zipmap of %d keys", len(p.Keys))
	case p.Kind != onnx.KindTensor:
		return p.Kind
	}
	return p.Datatype
}

// Opset words the versions of the operators.
func (g Graph) Opset() string {
	parts := make([]string, 0, len(g.Opsets))
	for _, domain := range slices.Sorted(maps.Keys(g.Opsets)) {
		parts = append(parts, fmt.Sprintf("%s opset %d", domain, g.Opsets[domain]))
	}
	return strings.Join(parts, ", ")
}

// Describe says what is known. The package must have been read.
func (s Subject) Describe() Description {
	p := s.Package
	d := Description{
		Name: p.Spec.Name, Version: p.Spec.Version, Description: p.Spec.Description, Digest: p.Digest,
		File: filepath.Base(p.Graph), Preprocess: p.Spec.Preprocess.Kind, Reads: p.Spec.Reads, Labels: p.Labels,
		Activation: p.Spec.Activation, Temperature: p.Spec.Temperature, BatchSizes: p.Spec.BatchSizes, Examples: len(p.Spec.Examples),
	}
	settings := p.Spec.Preprocess
	for _, part := range []any{settings.HashedNgrams, settings.Wordpiece, settings.Image, settings.Join} {
		if text, err := json.Marshal(part); err == nil && string(text) != "null" {
			d.Preprocess += " " + string(text)
		}
	}
	for _, err := range s.Problems {
		d.Problems = append(d.Problems, err.Error())
	}
	if i := s.Graph; i != nil {
		g := &Graph{Bytes: i.Bytes, IRVersion: i.IRVersion, Opsets: map[string]int64{}, Producer: i.Producer, External: i.External, Inputs: ports(i.Inputs), Outputs: ports(i.Outputs)}
		for domain, version := range i.Opsets {
			if domain == "" {
				domain = "ai.onnx"
			}
			g.Opsets[domain] = version
		}
		d.Graph = g
	}
	return d
}

func ports(of []onnx.Port) []Port {
	all := make([]Port, len(of))
	for i, p := range of {
		all[i] = Port{Name: p.Name, Kind: p.Kind, Datatype: p.Datatype, Shape: p.Shape, Keys: p.Keys}
	}
	return all
}
