package reviewing

import (
	"fmt"
	"strings"

	"aisle.dev/aisle/internal/review"
	"aisle.dev/aisle/internal/taxonomy"
)

// Categories is what may be decided: the leaves of a taxonomy; of none, any text.
type Categories struct{ tree *taxonomy.Tree }

// NewCategories returns those of a taxonomy, which may be nil.
func NewCategories(tree *taxonomy.Tree) Categories { return Categories{tree} }

func (c Categories) of(label string) review.Category {
	leaf, ok := c.tree.Leaf(label)
	if !ok {
		return review.Category{Label: label}
	}
	return review.Category{ID: leaf.ID, Label: label, Path: leaf.Path}
}

// Resolve gives the category that a text names: a label, a leaf's id, or a label
// in another case. One that there is none of is an error that names some like it.
func (c Categories) Resolve(text string) (review.Category, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return review.Category{}, fmt.Errorf("the category is empty")
	case len(text) > review.MaxText:
		return review.Category{}, fmt.Errorf("the category has %d bytes: at most %d are taken", len(text), review.MaxText)
	case c.tree == nil:
		return review.Category{Label: text}, nil
	}
	if label, ok := c.tree.Resolve(text); ok {
		return c.of(label), nil
	}
	for _, label := range c.tree.Labels() {
		if strings.EqualFold(label, text) {
			return c.of(label), nil
		}
	}
	why := fmt.Sprintf("%.80q is no category of the composition's taxonomy", text)
	if n, ok := c.tree.Node(text); ok {
		why = fmt.Sprintf("%.80q is %s, which has categories below it: one of those is wanted", text, strings.Join(n.Path, " > "))
	}
	var like []string
	for _, found := range c.Match(text, 5) {
		like = append(like, found.Label)
	}
	if like != nil {
		why += "; did you mean " + strings.Join(like, ", ") + "?"
	}
	return review.Category{}, fmt.Errorf("%s", why)
}

// Match gives at most n categories for what somebody has begun to type: all its
// words are in the label or its path, whatever their case. Where there are none,
// those that hold its first letters.
func (c Categories) Match(text string, n int) (found []review.Category) {
	if c.tree == nil {
		return nil
	}
	words := strings.Fields(strings.ToLower(text))
	for len(words) > 0 && found == nil {
		for _, label := range c.tree.Labels() {
			category := c.of(label)
			all := strings.ToLower(label + "\n" + strings.Join(category.Path, "\n"))
			holds := true
			for _, w := range words {
				holds = holds && strings.Contains(all, w)
			}
			if holds && len(found) < n {
				found = append(found, category)
			}
		}
		last := words[len(words)-1]
		words = words[:len(words)-1]
		if r := []rune(last); len(words) == 0 && len(r) > 3 {
			words = append(words, string(r[:len(r)-1]))
		}
	}
	return found
}
