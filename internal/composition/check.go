package composition

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/reduce"
	"aisle.dev/aisle/internal/taxonomy"
)

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// IsName reports whether a text can be the name of a leg, a service or a
// namespace: a DNS label.
func IsName(text string) bool { return dnsLabel.MatchString(text) }

// Parse checks a composition. The files that it names are in dir. Its error is
// [Problems].
func Parse(raw []byte, dir fs.FS) (*Composition, error) {
	r := &reader{}
	doc, err := r.document(raw)
	if err != nil {
		return nil, err
	}
	b := beside{dir: dir, sum: sha256.New()}
	b.sum.Write(raw)
	c := read(doc, &b)
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Digest = "sha256:" + hex.EncodeToString(b.sum.Sum(nil))
	return c, nil
}

// beside are the files that a composition names.
type beside struct {
	dir fs.FS
	sum hash.Hash // of all that was read
}

// read gives the text of a file that v names; false when there is none.
func (b *beside) read(v value) ([]byte, bool) {
	name, ok := v.text()
	if !ok {
		return nil, false
	}
	if !fs.ValidPath(name) {
		v.wrong("%.80q: want a file below the composition's folder", name)
		return nil, false
	}
	raw, err := ReadFile(b.dir, name, taxonomy.MaxBytes)
	if err != nil {
		v.wrong("%v", err)
		return nil, false
	}
	b.sum.Write(raw)
	return raw, true
}

// read reads the whole file. What it gives is of use when nothing is wrong.
func read(doc value, b *beside) *Composition {
	top := doc.fields("apiVersion", "kind", "metadata", "spec")
	for _, field := range [][2]string{{"apiVersion", APIVersion}, {"kind", Kind}} {
		if v := top(field[0]); !v.missing(field[1]) {
			v.oneOf(field[1])
		}
	}
	metadata := top("metadata").fields("name")
	spec := top("spec").fields("deadline", "margin", "legs", "quorum", "reducer", "threshold", "taxonomy", "rules")

	c := &Composition{Name: name(metadata("name"))}
	c.Deadline = spec("deadline").duration(DefaultDeadline, time.Millisecond, MaxDeadline)
	c.Margin = spec("margin").duration(min(DefaultMargin, c.Deadline/10), 0, c.Deadline/2)
	c.taxonomy(spec("taxonomy"), b) // before what maps labels to it
	c.legs(spec("legs"), b)
	counted := len(c.Counted())
	c.Quorum = spec("quorum").whole(1, 1, max(1, counted))
	c.reducer(spec("reducer"), b)
	c.Threshold = spec("threshold").number(0, func(f float64) bool { return f > 0 && f <= 1 }, "a probability above 0, at most 1; leave it out to answer always")
	c.rules(spec("rules"), b)
	return c
}

// name reads a DNS label.
func name(v value) string {
	text, ok := v.text()
	if !v.missing("a name: lower case letters, digits and dashes") && ok && !dnsLabel.MatchString(text) {
		v.wrong("%.80q is not a DNS label: want lower case letters, digits and dashes", text)
		return ""
	}
	return text
}

func positive(f float64) bool { return f > 0 && f <= reduce.MaxWeight }

func temperature(v value) float64 {
	return v.number(1, func(f float64) bool { return f >= reduce.MinTemperature && f <= reduce.MaxTemperature },
		fmt.Sprintf("a number from %v to %d", reduce.MinTemperature, reduce.MaxTemperature))
}

var legFields = []string{"name", "service", "variants", "namespace", "weight", "deadline", "required", "retries", "reads", "when", "shadow", "labels"}

func (c *Composition) legs(v value, b *beside) {
	var when []value
	items := v.items(MaxLegs)
	if len(items) == 0 && (!v.there || v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0) {
		v.wrong("it is empty: which classifiers are to be asked?")
	}
	seen := map[string]int{}
	for i, item := range items {
		f := item.fields(legFields...)
		l := Leg{
			Name: name(f("name")), Required: f("required").flag(), Shadow: f("shadow").flag(),
			Deadline: f("deadline").duration(0, time.Millisecond, MaxDeadline), Retries: f("retries").whole(DefaultRetries, 0, MaxRetries),
		}
		if l.Deadline > c.Deadline {
			f("deadline").wrong("%s is longer than spec.deadline, which is %s", l.Deadline, c.Deadline)
		}
		if first, twice := seen[l.Name]; twice && l.Name != "" {
			f("name").wrong("%q is the name of spec.legs[%d] too; a leg's name is its own", l.Name, first)
		}
		seen[l.Name] = i
		switch service, variants := f("service"), f("variants"); {
		case service.there == variants.there:
			item.wrong("want either service: NAME or variants: {gpu: NAME, cpu: NAME, rule: preferReady}")
		case service.there:
			l.Service = name(service)
		default:
			l.Variants = readVariants(variants, cmp.Or(l.Deadline, c.Deadline))
		}
		if n := f("namespace"); n.there {
			l.Namespace = name(n)
		}
		if w := f("weight"); l.Shadow {
			if w.there {
				w.wrong("a shadow leg has no weight; leave it out")
			}
			if r := f("required"); l.Required {
				r.wrong("a shadow leg is never waited for; leave out required or shadow")
			}
		} else {
			l.Weight = w.number(1, positive, fmt.Sprintf("a number above 0, at most %d; for a leg that is not to count say shadow: true", reduce.MaxWeight))
			c.Fusion.Pool.Weights = append(c.Fusion.Pool.Weights, l.Weight)
		}
		l.Reads = readFields(f("reads"))
		if labels := f("labels"); labels.there {
			l.Labels = c.labels(labels, b)
		}
		c.Legs, when = append(c.Legs, l), append(when, f("when"))
	}
	c.gates(when)
	if len(items) > 0 && len(c.Fusion.Pool.Weights) == 0 {
		v.wrong("all legs are shadows: want one that counts")
	}
}

// names are those of the legs that count.
func (c *Composition) names() []string {
	var out []string
	for _, i := range c.Counted() {
		out = append(out, c.Legs[i].Name)
	}
	return out
}

// readVariants reads two services, of which the GPU one may be waited for
// while less than limit.
func readVariants(v value, limit time.Duration) *Variants {
	f := v.fields("gpu", "cpu", "rule")
	out := &Variants{GPU: name(f("gpu")), CPU: name(f("cpu"))}
	if out.GPU == out.CPU && out.GPU != "" {
		v.wrong("gpu and cpu are both %q: want two services, or service: %s alone", out.GPU, out.GPU)
	}
	rule := f("rule")
	if !rule.there {
		return out
	}
	if rule.node.Kind == yaml.ScalarNode {
		if text := rule.oneOf("preferReady", "never", "{waitFor: 2s}"); text == "never" {
			out.Wait = Always
		}
		return out
	}
	wait := rule.fields("waitFor")("waitFor")
	wait.missing("a time such as 2s")
	if out.Wait = wait.duration(0, time.Millisecond, MaxDeadline); out.Wait >= limit {
		wait.wrong("%s leaves the CPU service no time: want less than the deadline, which is %s", out.Wait, limit)
	}
	return out
}

// readFields reads the names of a product's fields; nil when there are none.
func readFields(v value) []string {
	items := v.items(MaxReads)
	if v.there && v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0 {
		v.wrong("it is empty: name the fields that the leg reads, or leave it out")
	}
	var out []string
	for _, item := range items {
		out = append(out, readField(item))
	}
	return out
}

func readField(v value) string {
	text, ok := v.text()
	if ok && !product.IsField(text) {
		v.wrong("unknown field %.80q of the product; want title, description, brand, images or attributes.NAME", text)
	}
	return text
}

// reducers are the types of reducers, each with the fields that are its own.
var reducers = map[string][]string{"logpool": {"temperature", "prior"}, "linpool": nil, "vote": nil, "stack": {"model"}}

func (c *Composition) reducer(v value, b *beside) {
	f := v.fields("type", "temperature", "prior", "model", "calibration")
	f("type").missing("logpool, linpool, vote or stack")
	if c.Fusion.Type = f("type").oneOf("logpool", "linpool", "vote", "stack"); c.Fusion.Type == "" {
		return
	}
	takes := reducers[c.Fusion.Type]
	for _, field := range []string{"temperature", "prior", "model"} {
		if at := f(field); at.there && !slices.Contains(takes, field) {
			at.wrong("reducer %s does not take it; leave it out", c.Fusion.Type)
		}
	}
	pool := &c.Fusion.Pool
	pool.Temperature = temperature(f("temperature"))
	if p := f("prior"); p.there {
		of := p.fields("file", "weight")
		if !of("file").there || !of("weight").there {
			p.wrong("want {file: prior.csv, weight: V}, or leave it out")
		}
		pool.PriorWeight = of("weight").number(0, func(f float64) bool { return f >= 0 && f <= reduce.MaxWeight }, fmt.Sprintf("a number from 0 to %d", reduce.MaxWeight))
		if csv, ok := b.read(of("file")); ok {
			var err error
			if pool.Prior, err = parsePrior(csv); err != nil {
				of("file").wrong("%s: %v", of("file").node.Value, err)
			}
		}
	}
	c.calibration(f("calibration"))
	switch c.Fusion.Type {
	case "logpool":
		c.Reducer = *pool
	case "linpool":
		c.Reducer = reduce.LinPool{Weights: pool.Weights}
	case "vote":
		c.Reducer = reduce.Vote{Weights: pool.Weights}
	case "stack":
		model := f("model")
		if c.Fusion.Model, _ = model.text(); !fs.ValidPath(c.Fusion.Model) {
			model.wrong("%q: want the folder of a stack below the composition's, as `aisle compose fit` writes it", c.Fusion.Model)
			return
		}
		s, digest, err := reduce.LoadStack(b.dir, c.Fusion.Model, c.names())
		if err != nil {
			model.wrong("%v", err)
			return
		}
		b.sum.Write([]byte(digest))
		c.Reducer = s
	}
	if len(c.Fusion.Calibration) > 0 {
		c.Reducer = reduce.Calibrated{Reducer: c.Reducer, Patterns: c.Fusion.Calibration}
	}
}

// calibration reads the temperatures of patterns of legs.
func (c *Composition) calibration(v value) {
	index := map[string]int{}
	for i, leg := range c.names() {
		index[leg] = i
	}
	lines := map[string]int{}
	for _, item := range v.items(reduce.MaxPatterns) {
		f := item.fields("legs", "temperature")
		var p reduce.Pattern
		f("temperature").missing("a number; 1 changes nothing")
		p.Temperature = temperature(f("temperature"))
		for _, leg := range f("legs").items(MaxLegs) {
			name, _ := leg.text()
			i, ok := index[name]
			switch {
			case !ok:
				leg.wrong("%.80q is no leg that counts", name)
			case slices.Contains(p.Legs, i):
				leg.wrong("%q is in the pattern twice", name)
			default:
				p.Legs = append(p.Legs, i)
			}
		}
		slices.Sort(p.Legs)
		if len(p.Legs) == 0 {
			item.wrong("it names no legs: want those that answered together")
			continue
		}
		key := fmt.Sprint(p.Legs)
		if first, twice := lines[key]; twice {
			item.wrong("line %d has the same legs; leave one of them out", first)
		}
		lines[key] = item.node.Line
		c.Fusion.Calibration = append(c.Fusion.Calibration, p)
	}
}

// taxonomy reads the name of a CSV file, or a mapping that says more.
func (c *Composition) taxonomy(v value, b *beside) {
	file, format := v, ""
	if v.there && v.node.Kind != yaml.ScalarNode {
		f := v.fields("file", "format", "backoff")
		file = f("file")
		file.missing("the taxonomy's file, such as taxonomy.csv")
		format = f("format").oneOf("csv", "heureka")
		c.backoff(f("backoff"))
	}
	text, ok := b.read(file)
	if !ok {
		return
	}
	parse := taxonomy.Parse
	if format == "heureka" {
		parse = taxonomy.ParseHeureka
	}
	var err error
	if c.Taxonomy, err = parse(text); err != nil {
		file.wrong("%s: %v", file.node.Value, err)
	}
}

// labels reads a map of labels, each to a label of the taxonomy.
func (c *Composition) labels(v value, b *beside) map[string]string {
	text, ok := b.read(v)
	if !ok {
		return nil
	}
	labels, err := taxonomy.ParseLabels(text)
	if err != nil {
		v.wrong("%s: %v", v.node.Value, err)
	}
	if c.Taxonomy == nil {
		return labels
	}
	for _, from := range slices.Sorted(maps.Keys(labels)) {
		to, ok := c.Taxonomy.Resolve(labels[from])
		if !ok {
			v.wrong("%s: %.80s stands for %.80s, which is neither a label of the taxonomy nor the id of a category without others below it", v.node.Value, from, labels[from])
			break
		}
		labels[from] = to
	}
	return labels
}

func (c *Composition) backoff(v value) {
	if !v.there {
		return
	}
	f := v.fields("threshold", "thresholds")
	ok := func(f float64) bool { return f > 0 && f <= 1 }
	const want = "a probability above 0, at most 1"
	switch one, each := f("threshold"), f("thresholds"); {
	case one.there == each.there:
		v.wrong("want either threshold: 0.9, or thresholds: [0.99, 0.95], one for each level from the root on")
	case one.there:
		c.Backoff = []float64{one.number(1, ok, want)}
	default:
		for _, item := range each.items(taxonomy.MaxDepth) {
			c.Backoff = append(c.Backoff, item.number(1, ok, want))
		}
		if len(c.Backoff) == 0 {
			each.wrong("it is empty: want a threshold for each level from the root on")
		}
	}
}

func (c *Composition) rules(v value, b *beside) {
	seen, names := map[string]bool{}, c.names()
	var categories map[string][]string
	if c.Taxonomy != nil && v.there {
		categories = c.Taxonomy.Named()
	}
	for _, item := range v.items(MaxRules) {
		f := item.fields("name", "when", "forbid", "prior")
		rule := Rule{Name: name(f("name")), When: expression(f("when"), names)}
		if seen[rule.Name] && rule.Name != "" {
			f("name").wrong("%q is another rule's name too; answers name rules", rule.Name)
		}
		seen[rule.Name] = true
		if f("forbid").there == f("prior").there {
			item.wrong("want either forbid: [CATEGORIES] or prior: {from: FIELD, weight: W}")
		}
		for _, category := range f("forbid").items(MaxForbidden) {
			name, _ := category.text()
			if categories != nil && categories[name] == nil {
				category.wrong("%.80q is no label, name or id of the taxonomy: the rule would forbid nothing", name)
			}
			rule.Forbid = append(rule.Forbid, name)
		}
		if forbid := f("forbid"); forbid.there && len(rule.Forbid) == 0 {
			forbid.wrong("it names no categories")
		}
		if p := f("prior"); p.there {
			of := p.fields("from", "weight", "labels")
			rule.Prior = &Prior{From: readField(of("from")), Weight: of("weight").number(1, positive, fmt.Sprintf("a number above 0, at most %d", reduce.MaxWeight))}
			of("from").missing("the product's field that names a category, such as attributes.category")
			if labels := of("labels"); labels.there {
				rule.Prior.Labels = c.labels(labels, b)
			}
		}
		c.Rules = append(c.Rules, rule)
	}
}
