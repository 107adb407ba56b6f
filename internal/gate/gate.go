// Package gate tells by an expression in CEL whether a leg of a composition is
// to be asked about a product, or a rule applies to it.
//
// An expression is about the product, the event that brought it and the legs:
//
//	legs.title.failed || legs.title.confidence < 0.9
//	product.attributes.exists(name, name == "gender") && event.type != "x"
//
// What it may name:
//
//	product.id, .title, .description, .brand   string; "" when the product has none
//	product.images                             list of string: each one's URL, "" of an inline one
//	product.attributes, event                  map of string to string
//	legs.NAME.label                            string; "" unless it answered
//	legs.NAME.confidence, .margin              double; 0 unless it answered
//	legs.NAME.answered, .failed, .skipped      bool
//
// A leg whose name is no identifier is written in backticks: legs.`a-b`.failed.
//
// Guarantees:
//   - What [Compile] accepts is of the right types, and costs at most [MaxCost]
//     whatever the product; [Gate.Eval] is held to that once more as it runs.
//   - [Gate.Eval] is deterministic, has no side effect and is safe for
//     concurrent use.
//
// Non-goals: it decides nothing by an error: the caller does.
package gate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/interpreter"

	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/product"
)

// Bounds of an expression.
const (
	MaxLength = 2 << 10 // bytes
	// MaxCost is in CEL's own unit, about one step of evaluation each. What a
	// leg's call costs the composer is about as much.
	MaxCost = 100_000
	// maxDepth is how deep an expression's parentheses and calls nest.
	maxDepth = 32
)

// Gate is a compiled expression.
type Gate struct {
	text     string
	mentions []string
	program  cel.Program
}

// Input is what an expression is about.
type Input struct {
	Product product.Product
	Event   map[string]string // the attributes of the event; nil: the product came without one
	Legs    map[string]Leg    // by name; every leg that the expression mentions
}

// Leg is what became of a leg.
type Leg struct {
	Label                     string  // its best; "" unless it answered
	Confidence                float64 // of that label
	Margin                    float64 // the confidence, less that of the second label
	Answered, Failed, Skipped bool
}

// legFields are the names by which an expression reads a [Leg].
var legFields = map[string]*cel.Type{
	"label": cel.StringType, "confidence": cel.DoubleType, "margin": cel.DoubleType,
	"answered": cel.BoolType, "failed": cel.BoolType, "skipped": cel.BoolType,
}

// productFields are the names by which an expression reads a product.
var productFields = map[string]*cel.Type{
	"id": cel.StringType, "title": cel.StringType, "description": cel.StringType, "brand": cel.StringType,
	"images": cel.ListType(cel.StringType), "attributes": cel.MapType(cel.StringType, cel.StringType),
}

// base is what all expressions share. It takes a millisecond, which a
// composition without expressions does not spend.
var base = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.EnableIdentifierEscapeSyntax(),
		cel.ParserRecursionLimit(maxDepth),
		cel.CrossTypeNumericComparisons(true), // confidence < 1
		cel.Variable("event", cel.MapType(cel.StringType, cel.StringType)),
	}
	for field, t := range productFields {
		options = append(options, cel.Variable("product."+field, t))
	}
	return cel.NewEnv(options...)
})

// Compile compiles an expression that may mention legs of these names. Its
// errors say where in the expression the fault is.
func Compile(expr string, legs []string) (*Gate, error) {
	if len(expr) > MaxLength {
		return nil, fmt.Errorf("the expression is %d bytes long; at most %d are read", len(expr), MaxLength)
	}
	if strings.TrimSpace(expr) == "" {
		return nil, fmt.Errorf("the expression is empty; leave it out if it is always to hold")
	}
	env, err := base()
	if err != nil {
		return nil, fmt.Errorf("make CEL's environment: %w", err)
	}
	var variables []cel.EnvOption
	for _, leg := range legs {
		if !strings.Contains(expr, leg) {
			continue // each declared name costs time
		}
		for field, t := range legFields {
			variables = append(variables, cel.Variable(variable(leg, field), t))
		}
	}
	if env, err = env.Extend(variables...); err != nil {
		return nil, fmt.Errorf("declare the legs: %w", err)
	}
	parsed, issues := env.Parse(expr)
	if issues.Err() != nil {
		return nil, fault(expr, issues, "")
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, fault(expr, issues, unknown(parsed, legs))
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("the expression gives a %s; want a bool: compare it with something", t)
	}
	cost, err := env.EstimateCost(checked, sizes{})
	if err != nil {
		return nil, fmt.Errorf("estimate what the expression costs: %w", err)
	}
	if cost.Max > MaxCost {
		return nil, fmt.Errorf("the expression may cost %d steps with the largest product; at most %d are spent: use fewer loops (exists, all, filter, map), or match shorter fields", cost.Max, MaxCost)
	}
	program, err := env.Program(checked, cel.CostLimit(MaxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("the expression can never be told: %w", err)
	}
	mentioned := map[string]bool{}
	for _, reference := range checked.NativeRep().ReferenceMap() {
		if leg, _, ok := legField(reference.Name); ok {
			mentioned[leg] = true
		}
	}
	return &Gate{text: expr, mentions: slices.Sorted(maps.Keys(mentioned)), program: program}, nil
}

// String is the expression as written.
func (g *Gate) String() string { return g.text }

// Mentions names the legs that the expression is about, sorted.
func (g *Gate) Mentions() []string { return g.mentions }

// Eval tells whether the expression holds. It fails where the expression reads
// a key that is not there, divides by zero, or costs more than [MaxCost].
func (g *Gate) Eval(in Input) (bool, error) {
	v, _, err := g.program.Eval(activation{&in})
	if err != nil {
		return false, err
	}
	holds, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("it gives %v", v.Value())
	}
	return holds, nil
}

// variable is the name under which CEL knows a leg's field: a qualified one, so
// that the checker knows every field without a type of ours.
func variable(leg, field string) string { return "legs." + leg + "." + field }

// legField takes apart what [variable] made.
func legField(name string) (leg, field string, ok bool) {
	name, ok = strings.CutPrefix(name, "legs.")
	i := strings.LastIndexByte(name, '.')
	if !ok || i < 0 {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}

// activation gives CEL what an expression names.
type activation struct{ in *Input }

func (a activation) Parent() interpreter.Activation { return nil }

func (a activation) ResolveName(name string) (any, bool) {
	p := &a.in.Product
	switch name {
	case "product.id":
		return p.ID, true
	case "product.title":
		return p.Title, true
	case "product.description":
		return p.Description, true
	case "product.brand":
		return p.Brand, true
	case "product.attributes":
		return p.Attributes, true
	case "product.images":
		urls := make([]string, len(p.Images))
		for i, image := range p.Images {
			urls[i] = image.URL
		}
		return urls, true
	case "event":
		return a.in.Event, true
	}
	name, field, ok := legField(name)
	if !ok {
		return nil, false
	}
	leg, ok := a.in.Legs[name]
	if !ok {
		return nil, false
	}
	switch field {
	case "label":
		return leg.Label, true
	case "confidence":
		return leg.Confidence, true
	case "margin":
		return leg.Margin, true
	case "answered":
		return leg.Answered, true
	case "failed":
		return leg.Failed, true
	case "skipped":
		return leg.Skipped, true
	}
	return nil, false
}

// sizes tells CEL how long a product's fields can be.
type sizes struct{}

func (sizes) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	path := n.Path()
	if len(path) == 0 {
		return nil
	}
	longest := uint64(product.MaxAttribute)
	switch path[0] {
	case "product.id":
		longest = product.MaxID
	case "product.title":
		longest = product.MaxTitle
	case "product.description":
		longest = product.MaxText
	case "product.images":
		longest = product.MaxImages
		if len(path) > 1 {
			longest = product.MaxURL
		}
	case "product.attributes":
		if len(path) == 1 {
			longest = product.MaxAttributes
		}
	case "event":
		if longest = event.MaxAttribute; len(path) == 1 {
			longest = event.MaxAttributes
		}
	}
	return &checker.SizeEstimate{Min: 0, Max: longest}
}

func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
