// Package pack makes a model package of a trained graph: it fits the
// temperature on the validation part, measures on the test part, and writes
// model.yaml, labels.txt and CARD.md. Everything is measured through
// models/internal/replay, which is what serving does.
package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/fit"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/score"
	"aisle.dev/aisle/models/internal/replay"
)

// Seed of all bootstrap intervals.
const Seed = 1

// View is a named way of looking at the products.
type View struct {
	Key  string // of its figures; "" for the main one
	Name string // in the card
	replay.View
}

// Figures say how good answers on one view are.
type Figures struct {
	View, Name        string
	N                 int
	Accuracy, F1, ECE float64
	AccuracyInterval  score.Interval
	F1Interval        score.Interval
	ECEInterval       score.Interval
	Confusions        []score.Confusion
	Perplexity        float64 // exp of the mean negative log-likelihood
}

// Measure compares answers with the truth. An answer that is nil is left out.
func Measure(key, name string, p [][]float64, truth []int) Figures {
	f, nll := Figures{View: key, Name: name}, 0.0
	var answers []score.Answer
	for i := range p {
		if p[i] == nil {
			continue
		}
		best := 0
		for c, v := range p[i] {
			if v > p[i][best] {
				best = c
			}
		}
		answers = append(answers, score.Answer{Truth: int32(truth[i]), Said: int32(best), Confidence: min(1, p[i][best])})
		nll -= math.Log(max(p[i][truth[i]], 1e-12))
	}
	right := 0
	for _, a := range answers {
		if a.Right() {
			right++
		}
	}
	b := score.Bootstrap(answers, Seed)
	f.N, f.Accuracy, f.F1, f.ECE = len(answers), score.Accuracy(answers), score.MacroF1(answers), score.ECE(answers)
	f.AccuracyInterval, f.F1Interval, f.ECEInterval = score.Wilson(right, len(answers)), b.MacroF1, b.ECE
	f.Confusions = score.Confusions(answers)
	f.Perplexity = math.Exp(nll / float64(max(1, len(answers))))
	return f
}

// Truth returns the products' label indices.
func Truth(set *fashion.Set, products []fashion.Product) []int {
	truth := make([]int, len(products))
	for i, p := range products {
		truth[i] = set.Label(p)
	}
	return truth
}

// Write completes the package in dir, which holds the trained model.onnx.
// spec needs all but digests, labels, temperature and metrics. The first view
// is the main one; the temperature is fitted on the first calibrate views. card is a template over [Card].
func Write(ctx context.Context, dir string, spec model.Spec, set *fashion.Set, views []View, calibrate int, card, date string) ([]Figures, error) {
	digest, err := set.DataDigest()
	if err != nil {
		return nil, err
	}
	spec.APIVersion, spec.Kind = model.APIVersion, model.Kind
	spec.Provenance.Data, spec.Provenance.DataFiles, spec.Provenance.Split = "fashion", "sha256:"+digest, fashion.Rule
	spec.Temperature = 1
	labels := []byte(strings.Join(set.Labels, "\n") + "\n")
	if err := os.WriteFile(filepath.Join(dir, "labels.txt"), labels, 0o644); err != nil {
		return nil, err
	}
	graph, err := os.ReadFile(filepath.Join(dir, "model.onnx"))
	if err != nil {
		return nil, err
	}
	spec.Model, spec.Labels = pinned("model.onnx", graph), pinned("labels.txt", labels)
	p, err := save(dir, spec)
	if err != nil {
		return nil, err
	}
	leg, err := replay.Open(p)
	if err != nil {
		return nil, err
	}
	defer leg.Close()

	var fitted [][]float64
	var truth []int
	var weights []float64
	validation := readable(spec.Reads, set.In(fashion.Validation))
	for _, v := range views[:calibrate] {
		answers, err := leg.Probabilities(ctx, set.Dir, validation, v.View)
		if err != nil {
			return nil, err
		}
		fitted = append(fitted, answers...)
		truth, weights = append(truth, Truth(set, validation)...), append(weights, fit.Shares(set.Components(validation))...)
	}
	t, err := fit.Temperature(fitted, truth, weights)
	if err != nil {
		return nil, err
	}
	spec.Temperature = round(t, 3)
	leg.Package.Spec.Temperature = spec.Temperature

	test := readable(spec.Reads, set.In(fashion.Test))
	var figures []Figures
	spec.Metrics = map[string]float64{}
	for _, v := range views {
		answers, err := leg.Probabilities(ctx, set.Dir, test, v.View)
		if err != nil {
			return nil, err
		}
		f := Measure(v.Key, v.Name, answers, Truth(set, test))
		figures = append(figures, f)
		for name, x := range map[string]float64{"accuracy": f.Accuracy, "macroF1": f.F1, "ece": f.ECE, "products": float64(f.N)} {
			spec.Metrics[name+v.Key] = round(x, 4)
		}
	}
	if _, err := save(dir, spec); err != nil {
		return nil, err
	}
	return figures, writeCard(filepath.Join(dir, "CARD.md"), card, Card{Spec: spec, Figures: figures, Labels: set.Labels, Date: date, Bytes: len(graph)})
}

// readable leaves out products without photo where photos are read.
func readable(reads []string, products []fashion.Product) []fashion.Product {
	return slices.DeleteFunc(products, func(p fashion.Product) bool { return slices.Contains(reads, "images") && !p.Photo })
}

func pinned(name string, data []byte) model.File {
	sum := sha256.Sum256(data)
	return model.File{File: name, SHA256: hex.EncodeToString(sum[:])}
}

// save writes model.yaml and reads the package back, as any user of it would.
func save(dir string, spec model.Spec) (*model.Package, error) {
	text, err := yaml.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "model.yaml"), text, 0o644); err != nil {
		return nil, err
	}
	return model.Load(dir)
}

func round(x float64, digits int) float64 {
	scale := math.Pow(10, float64(digits))
	return math.Round(x*scale) / scale
}

// Card is what a card's template is given.
type Card struct {
	Spec    model.Spec
	Figures []Figures
	Labels  []string
	Date    string
	Bytes   int
}

// Table is the figures as Markdown.
func (c Card) Table() string { return Table(c.Figures) }

// Table writes figures as a Markdown table, intervals in brackets.
func Table(figures []Figures) string {
	var b strings.Builder
	b.WriteString("| seen | products | accuracy | macro-F1 | ECE |\n|---|---|---|---|---|\n")
	for _, f := range figures {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", f.Name, f.N, figure(f.Accuracy, f.AccuracyInterval), figure(f.F1, f.F1Interval), figure(f.ECE, f.ECEInterval))
	}
	return b.String()
}

func figure(x float64, i score.Interval) string {
	return fmt.Sprintf("%.3f (%.3f-%.3f)", x, i.Low, i.High)
}

// Confused lists the most frequent mistakes of the main view.
func (c Card) Confused() string {
	var parts []string
	for _, f := range c.Figures[0].Confusions[:min(8, len(c.Figures[0].Confusions))] {
		parts = append(parts, fmt.Sprintf("%s taken for %s (%d)", c.Labels[f.Truth], c.Labels[f.Said], f.Count))
	}
	return strings.Join(parts, ", ")
}

func writeCard(path, text string, card Card) error {
	t, err := template.New("card").Parse(text)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := t.Execute(&buf, card); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o644)
}
