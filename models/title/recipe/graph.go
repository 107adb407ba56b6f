package main

import "aisle.dev/aisle/internal/onnxgraph"

// graph writes the model sparsely: only the rows of the n-grams that occur are
// looked up, converted and summed.
//
//	ids [batch, tokens]      -> Gather rows of table -> [batch, tokens, labels]
//	weights [batch, tokens]  -> [batch, 1, tokens] x rows -> [batch, labels] + bias -> softmax
func (m *Linear) graph(producer string) onnxgraph.Model {
	buckets, labels := int64(len(m.Table)/m.Labels), int64(m.Labels)
	free := func(name string, t onnxgraph.Type) onnxgraph.Value {
		return onnxgraph.Value{Name: name, Type: t, Dims: []any{"batch", "tokens"}}
	}
	return onnxgraph.Model{
		Name: "title", Producer: producer,
		Inputs:  []onnxgraph.Value{free("ids", onnxgraph.Int32), free("weights", onnxgraph.Float)},
		Outputs: []onnxgraph.Value{{Name: "probabilities", Type: onnxgraph.Float, Dims: []any{"batch", m.Labels}}},
		Constants: []onnxgraph.Constant{
			// Half precision halves what a cold start reads and digests.
			{Name: "table", Type: onnxgraph.Float16, Shape: []int64{buckets, labels}, Data: m.Table},
			{Name: "bias", Type: onnxgraph.Float, Shape: []int64{labels}, Data: m.Bias},
			{Name: "one", Type: onnxgraph.Int64, Shape: []int64{1}, Data: []int64{1}},
		},
		Nodes: []onnxgraph.Node{
			{Op: "Gather", Inputs: []string{"table", "ids"}, Outputs: []string{"rows16"}},
			{Op: "Cast", Inputs: []string{"rows16"}, Outputs: []string{"rows"}, Attributes: []onnxgraph.Attribute{{Name: "to", Value: int64(onnxgraph.Float)}}},
			{Op: "Unsqueeze", Inputs: []string{"weights", "one"}, Outputs: []string{"row"}},
			{Op: "MatMul", Inputs: []string{"row", "rows"}, Outputs: []string{"sum3"}},
			{Op: "Squeeze", Inputs: []string{"sum3", "one"}, Outputs: []string{"sum"}},
			{Op: "Add", Inputs: []string{"sum", "bias"}, Outputs: []string{"logits"}},
			{Op: "Softmax", Inputs: []string{"logits"}, Outputs: []string{"probabilities"}, Attributes: []onnxgraph.Attribute{{Name: "axis", Value: int64(-1)}}},
		},
	}
}
