package gate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
)

// fault words the first of CEL's errors about an expression, and what to do
// about it, if that is known.
func fault(expr string, issues *cel.Issues, hint string) error {
	first := issues.Errors()[0]
	at := fmt.Sprintf("column %d", first.Location.Column()+1)
	if strings.Contains(strings.TrimSpace(expr), "\n") {
		at = fmt.Sprintf("line %d, %s", first.Location.Line(), at)
	}
	if hint != "" {
		return fmt.Errorf("%s: %s", at, hint)
	}
	said, _, _ := strings.Cut(strings.TrimPrefix(first.Message, "Syntax error: "), " (in container")
	said, _, _ = strings.Cut(said, " expecting {")
	hint = ""
	switch {
	case strings.Contains(said, "input '<EOF>'"):
		said = "the expression ends too early"
	case strings.Contains(said, "undeclared reference"):
		hint = "; an expression is about product, event and legs"
	case strings.Contains(said, "no matching overload for '_=_'"), strings.Contains(said, "token recognition error at: '= '"):
		hint = "; compare with =="
	case strings.Contains(said, "no matching overload"):
		hint = "; the types do not go together"
	case strings.Contains(said, "token recognition error at: '&"), strings.Contains(said, "token recognition error at: '|"):
		hint = "; write && and ||"
	}
	return fmt.Errorf("%s: %s%s", at, said, hint)
}

// unknown says what is wrong with the first name in an expression that is
// wrong, if one is: the checker knows qualified names only as wholes, and says
// that "legs" is unknown of legs.titel.failed.
func unknown(parsed *cel.Ast, legs []string) (hint string) {
	inner := map[int64]bool{} // selections within a longer one
	ast.PreOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if hint != "" || e.Kind() != ast.SelectKind && e.Kind() != ast.CallKind {
			return
		}
		if e.Kind() == ast.CallKind {
			if call := e.AsCall(); call.FunctionName() == "_[_]" && len(call.Args()) == 2 && isIdent(call.Args()[0], "legs") {
				hint = "write a leg's name after a dot, in backticks where it has a dash: legs.`a-b`.confidence"
			}
			return
		}
		operand := e.AsSelect().Operand()
		inner[operand.ID()] = true
		if inner[e.ID()] {
			return
		}
		path := []string{e.AsSelect().FieldName()}
		for operand.Kind() == ast.SelectKind {
			inner[operand.AsSelect().Operand().ID()] = true
			path = append(path, operand.AsSelect().FieldName())
			operand = operand.AsSelect().Operand()
		}
		slices.Reverse(path)
		switch {
		case isIdent(operand, "product") && productFields[path[0]] == nil:
			hint = fmt.Sprintf("a product has no %q; it has %s", path[0], names(productFields))
		case isIdent(operand, "product") && e.AsSelect().IsTestOnly() && len(path) == 1:
			hint = fmt.Sprintf("has() is for attributes; every product has a %s, which may be empty", path[0])
		case !isIdent(operand, "legs"):
		case !slices.Contains(legs, path[0]):
			hint = fmt.Sprintf("there is no leg %q here; there is %s%s", path[0], strings.Join(legs, ", "), dashed(path[0], legs))
		case len(path) == 1 || legFields[path[1]] == nil:
			hint = fmt.Sprintf("of a leg, use %s%s", names(legFields), dashed(path[0], legs))
		}
	}))
	return hint
}

// dashed adds to a hint where CEL may have read a leg's name as a subtraction.
func dashed(name string, legs []string) string {
	for _, leg := range legs {
		if strings.HasPrefix(leg, name+"-") {
			return fmt.Sprintf("; a name with a dash is written in backticks: legs.`%s`.confidence", leg)
		}
	}
	return ""
}

func isIdent(e ast.Expr, name string) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == name }

func names(fields map[string]*cel.Type) string {
	return strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}
