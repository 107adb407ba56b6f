package model

import (
	"fmt"
	"slices"
)

// preprocess checks the preprocessing, and that the inputs are what it gives.
func (c *checker) preprocess(s Spec) {
	p := s.Preprocess
	wants := map[string]string{HashedNgrams: "hashedNgrams", TextString: "", WordPiece: "wordpiece", Picture: "image", None: ""}
	name, known := wants[p.Kind]
	if !c.want(known, "preprocess.kind", "%q: want text/hashed-ngrams, text/string, text/wordpiece, image or none", p.Kind) {
		return
	}
	have := map[string]bool{"hashedNgrams": p.HashedNgrams != nil, "wordpiece": p.Wordpiece != nil, "image": p.Image != nil}
	whole := name == "" || c.want(have[name], "preprocess."+name, "it is missing: kind %s wants it", p.Kind)
	for _, other := range []string{"hashedNgrams", "wordpiece", "image"} {
		c.want(other == name || !have[other], "preprocess."+other, "leave it out: the kind is %s", p.Kind)
	}
	joins := p.Kind == TextString || p.Kind == WordPiece
	c.want(p.Join == nil || joins, "preprocess.join", "leave it out: the kind is %s, which joins nothing", p.Kind)
	c.want(p.Join == nil || len(*p.Join) <= 16, "preprocess.join", "want at most 16 bytes")
	if p.Kind == None {
		return
	}
	pictures := slices.Contains(s.Reads, "images")
	if p.Kind == Picture {
		c.want(pictures && len(s.Reads) == 1, "reads", "%v: want [images]: preprocess kind image reads nothing else", s.Reads)
	} else {
		c.want(!pictures, "reads", "%v: want text fields: preprocess kind %s reads no images", s.Reads, p.Kind)
	}
	if !whole {
		return
	}
	switch p.Kind {
	case HashedNgrams:
		err := p.HashedNgrams.Validate()
		c.want(err == nil, "preprocess", "%v", err)
		if c.inputs(s, 2, "ids and weights") {
			c.input(s.Inputs, 0, []int64{-1, -1}, "INT32", "INT64")
			c.input(s.Inputs, 1, []int64{-1, -1}, "FP32")
		}
	case TextString:
		if c.inputs(s, 1, "the text") {
			in := s.Inputs[0]
			c.want(in.Datatype == "BYTES", "inputs[0].datatype", "%q: want BYTES, which ONNX calls string", in.Datatype)
			c.want(len(in.Shape) == 1 || len(in.Shape) == 2 && (in.Shape[1] == 1 || in.Shape[1] == -1), "inputs[0].shape", "%v: want [-1, 1] or [-1]: one text a row", in.Shape)
		}
	case WordPiece:
		c.wordpiece(s)
	case Picture:
		c.image(s)
	}
}

// inputs wants as many inputs as the preprocessing gives tensors.
func (c *checker) inputs(s Spec, n int, which string) bool {
	return c.want(len(s.Inputs) == n, "inputs", "%d are declared: preprocess kind %s gives %d: %s", len(s.Inputs), s.Preprocess.Kind, n, which)
}

// input wants a datatype and a shape of an input. The first dimension is the
// batch, which is checked elsewhere; a declared -1 fits every dimension.
func (c *checker) input(inputs []Tensor, i int, shape []int64, datatypes ...string) {
	at, in := fmt.Sprintf("inputs[%d]", i), inputs[i]
	c.want(slices.Contains(datatypes, in.Datatype), at+".datatype", "%q: the preprocessing gives %v", in.Datatype, datatypes)
	fits := len(in.Shape) == len(shape)
	for k := 1; fits && k < len(shape); k++ {
		fits = in.Shape[k] == -1 || in.Shape[k] == shape[k]
	}
	c.want(fits, at+".shape", "%v: the preprocessing gives %v", in.Shape, shape)
}

func (c *checker) wordpiece(s Spec) {
	w := s.Preprocess.Wordpiece
	c.file("preprocess.wordpiece.tokenizer", w.Tokenizer)
	c.want(w.MaxTokens >= 1 && w.MaxTokens <= MaxTokens, "preprocess.wordpiece.maxTokens", "%d: want 1 to %d", w.MaxTokens, MaxTokens)
	names := []string{"input_ids", "attention_mask", "token_type_ids"}
	ids := false
	for i, in := range s.Inputs {
		ids = ids || in.Name == names[0]
		if c.want(slices.Contains(names, in.Name), fmt.Sprintf("inputs[%d].name", i), "%.80q: a tokenizer gives %v", in.Name, names) {
			// A graph of a fixed length is padded to it.
			length := int64(-1)
			if len(in.Shape) == 2 && in.Shape[1] == int64(w.MaxTokens) {
				length = in.Shape[1]
			}
			c.input(s.Inputs, i, []int64{-1, length}, "INT32", "INT64")
		}
	}
	c.want(ids, "inputs", "input_ids is missing")
}

func (c *checker) image(s Spec) {
	im := s.Preprocess.Image.WithDefaults()
	const at = "preprocess.image"
	c.want(im.Width >= 1 && im.Width <= MaxSide && im.Height >= 1 && im.Height <= MaxSide, at, "size %dx%d: want 1 to %d each way", im.Width, im.Height, MaxSide)
	c.want(im.Resize == Squash || im.Resize == Crop, at+".resize", "%q: want squash or crop", im.Resize)
	c.want(im.CropRatio >= 0.1 && im.CropRatio <= 1, at+".cropRatio", "%v: want 0.1 to 1", im.CropRatio)
	c.want(im.CropRatio == 1 || im.Resize == Crop, at+".cropRatio", "leave it out, or say resize: crop")
	c.want(im.Channels == RGB || im.Channels == BGR || im.Channels == Grey, at+".channels", "%q: want RGB, BGR or L", im.Channels)
	c.want(im.Layout == NCHW || im.Layout == NHWC, at+".layout", "%q: want NCHW or NHWC", im.Layout)
	if !c.inputs(s, 1, "the picture") {
		return
	}
	if raw := s.Preprocess.Image; s.Inputs[0].Datatype == "UINT8" {
		c.want(raw.Scale == nil && raw.Mean == [3]float32{} && raw.Std == [3]float32{}, at, "leave out scale, mean and std: pixels of UINT8 are 0 to 255 as they are")
	} else {
		c.want(*im.Scale > 0, at+".scale", "%v: want a number above 0", *im.Scale)
		c.want(min(im.Std[0], im.Std[1], im.Std[2]) > 0, at+".std", "%v: want three numbers above 0; 1 divides by nothing", im.Std)
	}
	shape := []int64{-1, int64(im.Depth()), int64(im.Height), int64(im.Width)}
	if im.Layout == NHWC {
		shape = []int64{-1, int64(im.Height), int64(im.Width), int64(im.Depth())}
	}
	c.input(s.Inputs, 0, shape, "FP32", "FP16", "UINT8")
}
