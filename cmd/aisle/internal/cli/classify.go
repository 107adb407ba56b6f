package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
)

func (a *app) classify() *cobra.Command {
	var given productFlags
	var to, service, format string
	var top int
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "classify",
		Short: "Categorise one product",
		Long: `Categorise one product, given by flags. The composer answers with one
category and what each of its legs said; with --service one classifier answers
with its most probable labels.`,
		Example: `  aisle classify --title "Blue denim jeans"
  aisle classify --title "Runner" --attribute gender=Men --image photo.jpg
  aisle classify --service title --title "Silk tie" --top 3
  aisle classify --title "Silk tie" -o json | jq .category.path`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if top < 1 {
				return usagef("--top %d: use 1 or more", top)
			}
			p, err := given.product()
			if err != nil {
				return err
			}
			body, err := delivery.AppendProduct(nil, p)
			if err != nil {
				return err
			}
			name := service
			if name == "" {
				name = "composer"
			}
			at, err := a.target(cmd.Context(), to, name)
			if err != nil {
				return err
			}
			poster := &delivery.Poster{To: at.url, Gateway: at.gateway, Help: at.help, Attempts: 4, Timeout: timeout, Client: delivery.NewClient(1, at.gateway)}
			defer poster.Client.CloseIdleConnections()
			if err := poster.Check(cmd.Context()); err != nil {
				return err
			}
			if service != "" {
				return a.predict(cmd.Context(), poster, body, top, format)
			}
			return a.categorise(cmd.Context(), poster, body, format)
		},
	}
	f := cmd.Flags()
	given.flags(cmd)
	f.StringVar(&service, "service", "", "ask one classifier instead of the composer")
	f.IntVar(&top, "top", 5, "labels to show, with --service")
	f.StringVar(&to, "to", "", "URL of the composer, or of the classifier (default: of the engine that runs, or as the cluster says)")
	f.DurationVar(&timeout, "timeout", time.Minute, "give up after")
	output(cmd, &format, "table", "json", "yaml")
	_ = cmd.RegisterFlagCompletionFunc("service", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) { // fails only for a flag that is not there
		return a.serviceNames(cmd)
	})
	return cmd
}

// productFlags are a product, given on the command line.
type productFlags struct {
	p                  product.Product
	images, attributes []string
}

func (g *productFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.p.ID, "id", "", "the product's id")
	f.StringVar(&g.p.Title, "title", "", "the product's title")
	f.StringVar(&g.p.Description, "description", "", "the product's description")
	f.StringVar(&g.p.Brand, "brand", "", "the product's brand")
	f.StringArrayVar(&g.images, "image", nil, "a picture: a file, or a URL (repeat it for more)")
	f.StringArrayVar(&g.attributes, "attribute", nil, "an attribute, NAME=VALUE (repeat it for more)")
}

// given reports whether any flag was.
func (g *productFlags) given() bool {
	return g.p.ID+g.p.Title+g.p.Description+g.p.Brand != "" || len(g.images)+len(g.attributes) > 0
}

// product reads the pictures, and checks the whole.
func (g *productFlags) product() (product.Product, error) {
	p := g.p
	for _, text := range g.attributes {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return p, usagef("--attribute %q: use NAME=VALUE", text)
		}
		if p.Attributes == nil {
			p.Attributes = map[string]string{}
		}
		p.Attributes[name] = value
	}
	for _, name := range g.images {
		im, err := readImage(name)
		if err != nil {
			return p, err
		}
		p.Images = append(p.Images, im)
	}
	if strings.TrimSpace(p.Title) == "" && len(p.Images) == 0 {
		return p, usagef("there is nothing to categorise; give a --title or an --image")
	}
	if err := p.Validate(); err != nil {
		return p, &exit{Usage, err}
	}
	return p, nil
}

// readImage takes a file's bytes, or a URL as it is.
func readImage(name string) (product.Image, error) {
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		return product.Image{URL: name}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return product.Image{}, fmt.Errorf("read the picture: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, product.MaxImage+1))
	switch {
	case err != nil:
		return product.Image{}, fmt.Errorf("read the picture: %w", err)
	case len(data) == 0:
		return product.Image{}, fmt.Errorf("the picture %s is empty", name)
	case len(data) > product.MaxImage:
		return product.Image{}, fmt.Errorf("the picture %s is larger than %d MiB", name, product.MaxImage>>20)
	}
	return product.Image{Data: data}, nil
}

// categorise asks the composer.
func (a *app) categorise(ctx context.Context, poster *delivery.Poster, body []byte, format string) error {
	start := time.Now()
	data, header, err := poster.Ask(ctx, "/category/predict", body)
	took := time.Since(start)
	if err != nil {
		return err
	}
	var r category.Result
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("%s answers, but not with a category: is it the composer? (%w)", poster.To, err)
	}
	if format != "table" {
		err = writeAs(a.out, format, r)
	} else {
		a.showCategory(r, took, delivery.Wake(header))
	}
	if err == nil && r.Category == nil {
		err = &exit{SomeFailed, delivery.NoCategory(r)}
	}
	return err
}

func (a *app) showCategory(r category.Result, took, wake time.Duration) {
	if r.Category != nil {
		cell := sure(r.Category.Confidence)
		a.out.Printf("%s  %s\n\n", a.out.Paint(screen.Bold, screen.Clean(strings.Join(r.Category.Path, " > "))), a.out.Paint(cell.Colour, cell.Text))
	}
	columns := []screen.Column{{Name: "LEG"}, {Name: "SAID"}, {Name: "SURE", Right: true}, {Name: "START"}, {Name: "MS", Right: true}, {Name: "NOTE"}}
	var rows [][]screen.Cell
	start := a.startCell()
	for _, l := range r.Legs {
		row := []screen.Cell{{Text: legName(l)}, {Text: string(l.Outcome), Colour: screen.Dim}, {}, {}, {Text: fmt.Sprintf("%.1f", l.LatencyMs)}, {Text: l.Reason}}
		switch l.Outcome {
		case category.Answered:
			row[1], row[2], row[3] = screen.Cell{Text: l.Label}, sure(l.Confidence), start(l.ColdMs)
		case category.Closed:
			row[1].Colour = screen.Yellow
		case category.LegFailed:
			row[1].Colour = screen.Red
		}
		rows = append(rows, row)
	}
	screen.Write(a.out, columns, rows)
	a.out.Printf("\n%.1f ms in all", ms(took))
	if wake > 0 {
		a.out.Printf(", %.0f ms of it the composer's start", ms(wake))
	}
	a.out.Printf("\n")
}

// startCell shows how a pod started; Knative's proxies do not tell.
func (a *app) startCell() func(coldMs float64) screen.Cell {
	if a.onCluster() {
		return func(float64) screen.Cell { return unknown }
	}
	return startCell
}

func startCell(cold float64) screen.Cell {
	if cold > 0 {
		return screen.Cell{Text: fmt.Sprintf("cold %.0f ms", cold), Colour: screen.Cyan}
	}
	return screen.Cell{Text: "warm", Colour: screen.Dim}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// predict asks one classifier.
func (a *app) predict(ctx context.Context, poster *delivery.Poster, body []byte, top int, format string) error {
	q := poster.To.Query()
	q.Set("top", fmt.Sprint(top))
	poster.To.RawQuery = q.Encode()
	start := time.Now()
	data, header, err := poster.Ask(ctx, "/v1/classify", body)
	took := time.Since(start)
	if err != nil {
		return err
	}
	var r prediction.Result
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("%s answers, but not with predictions: is it a classifier? (%w)", poster.To, err)
	}
	if format != "table" {
		return writeAs(a.out, format, r)
	}
	columns := []screen.Column{{Name: "LABEL"}, {Name: "PROBABILITY", Right: true}}
	var rows [][]screen.Cell
	for _, p := range r.Predictions {
		rows = append(rows, []screen.Cell{{Text: p.Label}, {Text: fmt.Sprintf("%.4f", p.Probability)}})
	}
	screen.Write(a.out, columns, rows)
	a.out.Printf("\n%s, %.1f ms", screen.Clean(fmt.Sprintf("%s %s on %s", r.Model.Name, r.Model.Version, r.Device)), ms(took))
	if wake := delivery.Wake(header); wake > 0 {
		a.out.Printf(", %.0f ms of it its start", ms(wake))
	}
	a.out.Printf("\n")
	return nil
}
