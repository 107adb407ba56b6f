package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/cmd/aisle/internal/trial"
	"aisle.dev/aisle/internal/onnx"
)

// library is where ONNX Runtime is.
func (a *app) library() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return onnx.Library(a.Getenv("ONNXRUNTIME_LIB"), exe)
}

func (a *app) modelValidate() *cobra.Command {
	var device, format string
	var pin bool
	cmd := &cobra.Command{
		Use:   "validate MODEL",
		Short: "Say all that is wrong with a model, and run its own examples",
		Long: `Check a model package, or a bare .onnx file: its model.yaml, its files and their
digests; that names, datatypes, shapes and the number of labels are the graph's;
that ONNX Runtime runs it in every batch size; and that the package's examples
get their labels. All that is wrong is listed, and the exit code is then 1.

With --write-digests the sha256 of files that have changed on purpose is written
into model.yaml first; nothing else in it changes. The package then has another
digest, which is to be written where the old one is pinned (MODEL_DIGEST).`,
		Example: `  aisle model validate models/title
  aisle model validate --write-digests models/title
  aisle model validate resnet50.onnx
  aisle model validate models/title -o json | jq .problems`,
		Args: exactly(1, oneModel),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDevice(device); err != nil {
				return err
			}
			var pinned []string
			if pin {
				var err error
				if pinned, err = trial.Pin(args[0]); err != nil {
					return fmt.Errorf("write digests: %w", err)
				}
			}
			v, err := a.validateModel(cmd, args[0], device)
			if err != nil {
				return err
			}
			v.Pinned = pinned
			if format != "table" {
				err = writeAs(a.out, format, v)
			} else {
				a.showVerdict(v)
			}
			if err == nil && len(v.Problems) > 0 {
				err = &exit{Failed, nil}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&pin, "write-digests", false, "first write the digests of the package's files into its model.yaml")
	deviceFlag(cmd, &device)
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// verdict is what validate found.
type verdict struct {
	Model    string          `json:"model,omitempty"`
	Digest   string          `json:"digest,omitempty"`
	Device   string          `json:"device,omitempty"`
	Pinned   []string        `json:"pinned,omitempty"`
	Examples []trial.Outcome `json:"examples,omitempty"`
	Problems []string        `json:"problems"`
}

// validateModel runs only what is right so far: what is wrong on paper would
// be found again, in other words.
func (a *app) validateModel(cmd *cobra.Command, path, device string) (verdict, error) {
	v := verdict{Problems: []string{}}
	s := trial.Read(path)
	note := func(problems []error) {
		for _, err := range problems {
			v.Problems = append(v.Problems, err.Error())
		}
	}
	note(s.Problems)
	if s.Package != nil {
		v.Model, v.Digest = s.Package.Spec.Name, s.Package.Digest
	}
	if len(v.Problems) > 0 {
		return v, nil
	}
	library, err := a.library()
	if err != nil {
		return v, err
	}
	session, err := trial.Open(s.Package, library, device, 0)
	if err != nil {
		note([]error{err})
		return v, nil
	}
	defer session.Close()
	v.Device = session.Device()
	note(trial.Batches(cmd.Context(), s.Package, session))
	if len(s.Package.Spec.Examples) > 0 && len(v.Problems) == 0 {
		if v.Examples, err = trial.Examples(cmd.Context(), s.Package, session); err != nil {
			note([]error{err})
		}
		for _, o := range v.Examples {
			if o.Problem != "" {
				note([]error{fmt.Errorf("example %d, which is to be %q: %s", o.Example, o.Want, o.Problem)})
			}
		}
	}
	return v, cmd.Context().Err()
}

func (a *app) showVerdict(v verdict) {
	for _, f := range v.Pinned {
		a.out.Printf("digest of %s written\n", screen.Clean(f))
	}
	for _, p := range v.Problems {
		a.out.Printf("%s %s\n", a.out.Paint(screen.Red, "wrong:"), screen.Clean(p))
	}
	if len(v.Problems) > 0 {
		return
	}
	a.out.Printf("%s %s is right: %s\n", a.out.Paint(screen.Green, "ok:"), v.Model, v.Digest)
	words := "it has no examples of its own"
	if n := len(v.Examples); n > 0 {
		words = fmt.Sprintf("%d of its own examples got their labels", n)
	}
	a.out.Printf("every batch size runs on %s; %s\n", v.Device, words)
}
