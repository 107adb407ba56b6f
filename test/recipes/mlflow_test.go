package recipes

import (
	"encoding/json"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestMLflow serves a graph from the folder in which MLflow logged it, its
// weights in a file beside it.
func TestMLflow(t *testing.T) {
	wanted(t)
	var logged struct {
		Path    string          `json:"path"`
		Request json.RawMessage `json:"request"`
		Want    []float64       `json:"want"`
	}
	out := env.Run(t, "test/recipes/mlflow_model.py", filepath.Join(t.TempDir(), "model"))
	if err := json.Unmarshal([]byte(out), &logged); err != nil {
		t.Fatal(err)
	}
	address, name := serve(t, classifier(t), logged.Path)
	resp, err := http.Post("http://"+address+"/v2/models/"+name+"/infer", "application/json", strings.NewReader(string(logged.Request)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Error   string `json:"error"`
		Outputs []struct {
			Data []float64 `json:"data"`
		} `json:"outputs"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Outputs) != 1 || len(answer.Outputs[0].Data) != len(logged.Want) {
		t.Fatalf("%s: %v %+v", resp.Status, err, answer)
	}
	for i, v := range answer.Outputs[0].Data {
		if math.Abs(v-logged.Want[i]) > 1e-4 {
			t.Fatalf("y[%d] is %v, in MLflow's process %v", i, v, logged.Want[i])
		}
	}
}
