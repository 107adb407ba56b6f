package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/cmd/aisle/internal/trial"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/product"
)

func (a *app) model() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Look at model packages and ONNX files, check and measure them",
		Long: `Look at a model package (a folder with a model.yaml) or a bare .onnx file,
check it, and measure it: in this process, with nothing else running.
docs/models.md says what a model.yaml holds.`,
		Example: `  aisle model inspect models/title --title "Blue denim jeans"
  aisle model validate models/title
  aisle model bench models/photo --for 10s
  aisle model schema > model.schema.json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.modelInspect(), a.modelValidate(), a.modelBench(), &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of a model.yaml",
		Example: `  aisle model schema > model.schema.json   # for an editor: # yaml-language-server: $schema=model.schema.json`,
		Args:    none,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(model.Schema())
			return err
		},
	})
	for _, c := range cmd.Commands() {
		c.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault // files and folders
		}
	}
	return cmd
}

// maxSeen is how many n-grams or tokens a table shows; -o json has all.
const maxSeen = 40

const oneModel = "one model: a package's folder or an .onnx file"

func (a *app) modelInspect() *cobra.Command {
	var given productFlags
	var file, format string
	cmd := &cobra.Command{
		Use:   "inspect MODEL",
		Short: "Show a model's inputs, outputs and labels, and what becomes of a product",
		Long: `Show what a model is: inputs, outputs, shapes, opset, size, digest, labels, and
how products are read. With a product, by flags or as JSON, show the tensors
that the preprocessing makes of it. ONNX Runtime is not needed. Where something
is wrong, that is told, and the exit code is 1.`,
		Example: `  aisle model inspect models/title
  aisle model inspect models/title --title "Blue denim jeans" --attribute gender=Men
  aisle model inspect models/photo --image photo.jpg -o json
  aisle model inspect models/title --product product.json
  aisle model inspect resnet50.onnx`,
		Args: exactly(1, oneModel),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" && given.given() {
				return usagef("--product is the whole product; leave the other flags of it out")
			}
			s := trial.Read(args[0])
			if s.Package == nil {
				return firstOf(s.Problems)
			}
			d := s.Describe()
			if file != "" || given.given() {
				p, err := given.productOr(a, file)
				if err != nil {
					return err
				}
				if len(s.Problems) > 0 {
					return fmt.Errorf("the package is not right, so it makes nothing of a product: %w", firstOf(s.Problems))
				}
				if d.Product, err = trial.Preprocess(cmd.Context(), s.Package, p); err != nil {
					return err
				}
			}
			var err error
			if format != "table" {
				err = writeAs(a.out, format, d)
			} else {
				a.showModel(d)
			}
			if err == nil && len(d.Problems) > 0 {
				err = &exit{Failed, nil}
			}
			return err
		},
	}
	given.flags(cmd)
	cmd.Flags().StringVar(&file, "product", "", "a file with the product as JSON, or - for standard input")
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// productOr is the product of the flags, or of a file of JSON where one is named.
func (g *productFlags) productOr(a *app, file string) (product.Product, error) {
	if file == "" {
		return g.product()
	}
	in := a.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return product.Product{}, fmt.Errorf("read the product: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, product.MaxBody+1))
	if err != nil {
		return product.Product{}, fmt.Errorf("read the product: %w", err)
	}
	return product.Decode(text)
}

// firstOf is the first problem, with the number of others.
func firstOf(problems []error) error {
	if len(problems) > 1 {
		return fmt.Errorf("%w (and %d more; `aisle model validate` lists them)", problems[0], len(problems)-1)
	}
	return errors.Join(problems...)
}

func (a *app) showModel(d trial.Description) {
	a.out.Printf("%s\n", a.out.Paint(screen.Bold, screen.Clean(d.Name+" "+d.Version)))
	line := func(name, value string) {
		if value != "" {
			a.out.Printf("%-12s %s\n", name, screen.Clean(value))
		}
	}
	line("Description", d.Description)
	line("Digest", d.Digest)
	if g := d.Graph; g != nil {
		line("Graph", fmt.Sprintf("%s, %s bytes, %s, IR %d%s", d.File, screen.Thousands(int(g.Bytes)), g.Opset(), g.IRVersion, by(g.Producer)))
		line("Weights in", strings.Join(g.External, ", "))
	}
	line("Preprocess", d.Preprocess)
	line("Reads", strings.Join(d.Reads, ", "))
	line("Labels", list(d.Labels, 6))
	if d.Activation != "" {
		line("Output", fmt.Sprintf("activation %s, temperature %g", d.Activation, d.Temperature))
	}
	line("Batches", strings.Trim(fmt.Sprint(d.BatchSizes), "[]"))
	if d.Examples > 0 {
		line("Examples", fmt.Sprint(d.Examples))
	}
	if g := d.Graph; g != nil {
		a.out.Printf("\n")
		var rows [][]screen.Cell
		for _, p := range g.Inputs {
			rows = append(rows, []screen.Cell{{Text: "input"}, {Text: p.Name}, {Text: p.Words()}, {Text: shape(p.Shape)}})
		}
		for _, p := range g.Outputs {
			rows = append(rows, []screen.Cell{{Text: "output"}, {Text: p.Name}, {Text: p.Words()}, {Text: shape(p.Shape)}})
		}
		screen.Write(a.out, []screen.Column{{Name: "GRAPH"}, {Name: "NAME"}, {Name: "TYPE"}, {Name: "SHAPE"}}, rows)
	}
	if d.Product != nil {
		a.out.Printf("\n")
		var rows [][]screen.Cell
		for _, v := range d.Product.Tensors {
			rows = append(rows, []screen.Cell{{Text: v.Name}, {Text: v.Datatype}, {Text: shape(v.Shape)}, {Text: elements(v.First)}})
		}
		screen.Write(a.out, []screen.Column{{Name: "PRODUCT AS"}, {Name: "TYPE"}, {Name: "SHAPE"}, {Name: "FIRST"}}, rows)
		line("\nSeen", list(d.Product.Seen, maxSeen))
	}
	for _, p := range d.Problems {
		a.err.Printf("%s %s\n", a.err.Paint(screen.Red, "wrong:"), screen.Clean(p))
	}
}

func by(producer string) string {
	if producer == "" {
		return ""
	}
	return ", by " + producer
}

// list names the first n, and says how many there are.
func list(all []string, n int) string {
	if len(all) == 0 {
		return ""
	}
	text := fmt.Sprintf("%d: %s", len(all), strings.Join(all[:min(n, len(all))], ", "))
	if len(all) > n {
		text += ", ..."
	}
	return text
}

func shape(s []int64) string { return strings.ReplaceAll(fmt.Sprint(s), " ", ", ") }

func elements(all []any) string {
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = fmt.Sprint(v)
		if s, ok := v.(string); ok && !strings.HasPrefix(s, "0x") {
			texts[i] = fmt.Sprintf("%q", s)
		}
	}
	return strings.Join(texts, " ")
}
