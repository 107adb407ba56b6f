package cli

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/category"
)

// resultFile writes category events as a file that other programs import.
// Each is written at once, so that a follow can be piped.
type resultFile interface {
	add(place string, ev ce.Event, r category.Result) error
	end() error
}

// newResultFile returns nil where the format is none of a file's.
func newResultFile(w io.Writer, format string) resultFile {
	switch format {
	case "csv":
		return &csvResults{out: csv.NewWriter(w)}
	case "heureka":
		return &heurekaResults{out: bufio.NewWriter(w)}
	}
	return nil
}

// resultOf reads the data of a category event.
func resultOf(ev ce.Event) (category.Result, error) {
	var r category.Result
	if err := json.Unmarshal(ev.Data(), &r); err != nil {
		return r, fmt.Errorf("read the data of event %q: %w", ev.ID(), err)
	}
	return r, nil
}

// csvResults has a row for each product, also those without a category.
type csvResults struct {
	out    *csv.Writer
	headed bool
}

func (c *csvResults) add(place string, ev ce.Event, r category.Result) error {
	if err := c.head(); err != nil {
		return err
	}
	row := []string{r.ID, "", "", "", "", string(r.Status), strconv.FormatBool(r.Review), ev.Time().UTC().Format(time.RFC3339), place}
	if k := r.Category; k != nil {
		row[1], row[2], row[3], row[4] = k.ID, k.Label, strings.Join(k.Path, " > "), strconv.FormatFloat(k.Confidence, 'f', 4, 64)
	}
	return c.row(row)
}

func (c *csvResults) head() error {
	if c.headed {
		return nil
	}
	c.headed = true
	return c.row([]string{"id", "category_id", "category", "path", "confidence", "status", "review", "time", "place"})
}

func (c *csvResults) row(cells []string) error {
	if err := c.out.Write(cells); err != nil {
		return err
	}
	c.out.Flush()
	return c.out.Error()
}

func (c *csvResults) end() error { return c.head() }

// heurekaResults is a feed as Heureka's importer reads it, with nothing of each
// product but its ITEM_ID and CATEGORYTEXT: the path, with bars. A product
// without a category, or without an id to know it by, is left out.
type heurekaResults struct {
	out    *bufio.Writer
	opened bool
}

func (h *heurekaResults) add(_ string, _ ce.Event, r category.Result) error {
	h.open()
	if r.Category == nil || r.ID == "" {
		return h.out.Flush()
	}
	_, _ = h.out.WriteString("  <SHOPITEM><ITEM_ID>") // Flush says what went wrong
	_ = xml.EscapeText(h.out, []byte(r.ID))
	_, _ = h.out.WriteString("</ITEM_ID><CATEGORYTEXT>")
	_ = xml.EscapeText(h.out, []byte(strings.Join(r.Category.Path, " | ")))
	_, _ = h.out.WriteString("</CATEGORYTEXT></SHOPITEM>\n")
	return h.out.Flush()
}

func (h *heurekaResults) open() {
	if !h.opened {
		_, _ = h.out.WriteString(xml.Header + "<SHOP>\n")
	}
	h.opened = true
}

func (h *heurekaResults) end() error {
	h.open()
	_, _ = h.out.WriteString("</SHOP>\n")
	return h.out.Flush()
}
