package prediction

import (
	"bytes"
	_ "embed"
)

//go:embed prediction.schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of a [Result].
func Schema() []byte { return bytes.Clone(schema) }
