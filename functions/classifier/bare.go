package main

import (
	"fmt"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
)

// declare tells a graph that comes without a package what it takes and gives,
// which the graph itself says. Outputs that no protocol has a word for
// (sequences, maps) are left out.
func declare(pkg *model.Package) error {
	info, err := onnx.Inspect(pkg.Graph)
	if err != nil {
		return err
	}
	tensor := func(p onnx.Port) model.Tensor {
		return model.Tensor{Name: p.Name, Datatype: p.Datatype, Shape: p.Shape}
	}
	var inputs []model.Tensor
	for _, p := range info.Inputs {
		if p.Kind != onnx.KindTensor || p.Datatype == "" {
			return fmt.Errorf("graph %s: input %s is a %s %s, which the Open Inference Protocol does not have", pkg.Graph, p.Name, p.Datatype, p.Kind)
		}
		inputs = append(inputs, tensor(p))
	}
	var outputs []model.Output
	for _, p := range info.Outputs {
		switch {
		case p.Kind == onnx.KindZipMap:
			outputs = append(outputs, model.Output{Tensor: tensor(p), Kind: model.ZipMap})
		case p.Kind == onnx.KindTensor && p.Datatype != "":
			outputs = append(outputs, model.Output{Tensor: tensor(p)})
		}
	}
	if len(outputs) == 0 {
		return fmt.Errorf("graph %s: none of its %d outputs is a tensor that the Open Inference Protocol has", pkg.Graph, len(info.Outputs))
	}
	return pkg.Declare(inputs, outputs)
}
