package reviewing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/review"
)

// Session asks somebody at a terminal about one product after the other.
type Session struct {
	In         io.Reader     // of a terminal in raw mode
	Out        screen.Screen // of that terminal
	Categories Categories
	// Decide makes a decision known. Its error is told, and the product stays.
	Decide func(Item, review.Category) error
	Now    func() time.Time
}

// Keys of a session, beside digits.
const (
	keyEnter  = '\r'
	keyType   = '/'
	keySkip   = 's'
	keyBack   = 'b'
	keyQuit   = 'q'
	keyMore   = 'm'
	interrupt = 3
	eof       = 4
	escape    = 27
)

const help = "[enter] the first is right   [1-9] another   [/] type a category   [s]kip   [b]ack   [m]ore of it   [q]uit"

// Run asks about the items and returns how many were decided. It ends when
// there are no more, when somebody quits, or with ctx.
func (s *Session) Run(ctx context.Context, items []Item, more int) (decided int, err error) {
	keys := &single{s.In}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keys, s.Out.Writer}, "category: ")
	t.AutoCompleteCallback = s.complete
	_ = t.SetSize(s.Out.Width, 24) // fails only for none
	out := s.Out
	out.Writer = t // it writes what a raw terminal wants at a line's end
	done := map[string]review.Category{}
	for i := 0; i < len(items); {
		if ctx.Err() != nil {
			return len(done), ctx.Err()
		}
		item := items[i]
		s.card(out, item, i, len(items), more, done[item.Review].Label, false)
	asking:
		for {
			key, err := keys.key()
			if err != nil && !errors.Is(err, io.EOF) {
				return len(done), err
			}
			var chosen review.Category
			switch {
			case err != nil, key == keyQuit, key == interrupt, key == eof:
				out.Printf("\n")
				return len(done), nil
			case key == keySkip:
				i++
				break asking
			case key == keyBack:
				i = max(0, i-1)
				break asking
			case key == keyMore:
				s.card(out, item, i, len(items), more, done[item.Review].Label, true)
				continue
			case key == keyEnter || key == '\n':
				chosen = s.Categories.of(item.Candidates[0].Label)
			case '1' <= key && key <= '9' && int(key-'0') <= len(item.Candidates):
				chosen = s.Categories.of(item.Candidates[key-'1'].Label)
			case key == keyType:
				chosen = s.typed(out, t)
				if chosen.Label == "" {
					out.Printf("%s\n", out.Paint(screen.Dim, help))
					continue
				}
			default:
				continue
			}
			if err := s.Decide(item, chosen); err != nil {
				out.Printf("  %s\n", out.Paint(screen.Red, screen.Clean("not kept: "+err.Error()+"; press the key again")))
				continue
			}
			out.Printf("  %s\n", out.Paint(screen.Green, screen.Clean("→ "+named(chosen))))
			done[item.Review] = chosen
			i++
			break asking
		}
	}
	return len(done), nil
}

// typed reads a category's name, until it is one or nothing.
func (s *Session) typed(out screen.Screen, t *term.Terminal) review.Category {
	out.Printf("%s\n", out.Paint(screen.Dim, "a part of its name; tab completes; an empty line goes back"))
	for {
		text, err := t.ReadLine()
		if err != nil || strings.TrimSpace(text) == "" {
			return review.Category{}
		}
		chosen, err := s.Categories.Resolve(text)
		if err == nil {
			return chosen
		}
		found := s.Categories.Match(text, 9)
		if len(found) == 1 {
			return found[0]
		}
		out.Printf("  %s\n", out.Paint(screen.Yellow, screen.Clean(err.Error())))
		for _, c := range found {
			out.Printf("  %s\n", screen.Clean(named(c)))
		}
	}
}

// complete completes what is typed as far as all categories that match agree.
func (s *Session) complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' || pos != len(line) {
		return "", 0, false
	}
	found := s.Categories.Match(line, 1000)
	if len(found) == 0 {
		return "", 0, false
	}
	common := []rune(found[0].Label)
	for _, c := range found[1:] {
		n := 0
		for n < len(common) && n < len([]rune(c.Label)) && common[n] == []rune(c.Label)[n] {
			n++
		}
		common = common[:n]
	}
	if len(common) < len([]rune(line)) && len(found) > 1 {
		return "", 0, false
	}
	return string(common), len(string(common)), true
}

func named(c review.Category) string {
	if len(c.Path) > 0 {
		return strings.Join(c.Path, " > ")
	}
	return c.Label
}

// shownText is how much of a description is shown, in characters.
const shownText = 300

// card shows a product and what was answered.
func (s *Session) card(out screen.Screen, item Item, i, n, more int, decided string, all bool) {
	line := func(c screen.Colour, format string, args ...any) {
		out.Printf("%s\n", out.Paint(c, screen.Cut(screen.Clean(fmt.Sprintf(format, args...)), out.Width-1)))
	}
	head := fmt.Sprintf("%d of %d", i+1, n)
	if more > 0 {
		head += fmt.Sprintf(" (%s more wait)", screen.Thousands(more))
	}
	if !item.Time.IsZero() {
		head += fmt.Sprintf("   %s ago", screen.Short(max(0, s.Now().Sub(item.Time))))
	}
	out.Printf("\n")
	line(screen.Dim, "%s   %s", head, item.ID())
	p := item.Product
	switch {
	case p.Title != "":
		line(screen.Bold, "%s", p.Title)
	case len(p.Images) > 0:
		line(screen.Bold, "(it has no title)")
	default:
		line(screen.Yellow, "Nothing of it is here but its answer: its picture came as bytes. See: aisle explain %s", item.ID())
	}
	var known []string
	if p.Brand != "" {
		known = append(known, "brand "+p.Brand)
	}
	for _, k := range slices.Sorted(maps.Keys(p.Attributes)) {
		known = append(known, k+" "+p.Attributes[k])
	}
	if len(known) > 0 {
		line(screen.Plain, "%s", strings.Join(known, " · "))
	}
	switch text := []rune(p.Description); {
	case all && len(text) > 0:
		out.Printf("%s\n", screen.Clean(p.Description))
	case len(text) > shownText:
		line(screen.Plain, "%s…", string(text[:shownText]))
	case len(text) > 0:
		line(screen.Plain, "%s", p.Description)
	}
	for _, image := range p.Images {
		out.Printf("%s\n", Link(out, image.URL))
	}
	out.Printf("\n")
	for j, c := range item.Candidates[:min(9, len(item.Candidates))] {
		colour := screen.Plain
		if j == 0 {
			colour = screen.Bold
		}
		line(colour, "  %d  %.2f  %s", j+1, c.Probability, named(s.Categories.of(c.Label)))
	}
	var legs []string
	for _, l := range item.Legs {
		switch {
		case l.Outcome == category.Answered:
			legs = append(legs, fmt.Sprintf("%s: %s %.2f", l.Name, l.Label, l.Confidence))
		case all && l.Reason != "":
			legs = append(legs, fmt.Sprintf("%s %s: %s", l.Name, l.Outcome, l.Reason))
		default:
			legs = append(legs, fmt.Sprintf("%s %s", l.Name, l.Outcome))
		}
	}
	line(screen.Dim, "     %s", strings.Join(legs, ", "))
	if decided != "" {
		line(screen.Green, "     decided: %s", decided)
	}
	line(screen.Dim, "%s", help)
}

// Link is a URL as text, which a terminal that knows OSC 8 opens. What is no
// http URL is text alone.
func Link(out screen.Screen, address string) string {
	text := screen.Clean(address)
	u, err := url.Parse(address)
	if err != nil || !out.Colour || text != address || u.Scheme != "http" && u.Scheme != "https" {
		return text
	}
	return "\x1b]8;;" + u.String() + "\x1b\\" + text + "\x1b]8;;\x1b\\"
}

// single gives one byte a read, so that nothing which was typed ahead is held
// by who reads a line.
type single struct{ io.Reader }

func (s *single) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return s.Reader.Read(p[:1])
}

// key reads one key; those that send several bytes, such as arrows, are none.
func (s *single) key() (byte, error) {
	var b [1]byte
	for {
		if _, err := io.ReadFull(s, b[:]); err != nil {
			return 0, err
		}
		if b[0] != escape {
			return b[0], nil
		}
		if _, err := io.ReadFull(s, b[:]); err != nil {
			return 0, err
		}
		if b[0] != '[' && b[0] != 'O' {
			return b[0], nil
		}
		for b[0] = 0; b[0] < 0x40 || b[0] > 0x7e; {
			if _, err := io.ReadFull(s, b[:]); err != nil {
				return 0, err
			}
		}
	}
}
