package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/servable"
)

// defaultServeAddress is where `aisle serve` listens.
const defaultServeAddress = "127.0.0.1:8080"

func (a *app) serve() *cobra.Command {
	var addr, device, timeout, level string
	var queue int
	var maxBody int64
	cmd := &cobra.Command{
		Use:   "serve MODEL",
		Short: "Serve one model in the foreground, without any manifest",
		Long: `Serve a model package (a folder with a model.yaml) or a bare .onnx file until
Ctrl-C: the product API where the model is a package, CloudEvents, and the Open
Inference Protocol v2 (REST and gRPC) on one port. It is the process that runs
in a pod, and it takes this command's place: signals reach it and its exit code
is the command's.

What is served, and requests to try, are printed to standard error; the log
follows there. It is ready once the log says so, and /readyz.`,
		Example: `  aisle serve models/title
  aisle serve --addr :9000 --device auto models/photo
  aisle serve resnet50.onnx`,
		Args: exactly(1, "one model: a package's folder or an .onnx file"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault // files and folders
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return usagef("--addr %q: want host:port, such as %s", addr, defaultServeAddress)
			}
			if err := checkDevice(device); err != nil {
				return err
			}
			p, err := servable.Load(args[0])
			if err != nil {
				return err
			}
			program, err := classifier()
			if err != nil {
				return err
			}
			if _, err := onnx.Library(a.Getenv("ONNXRUNTIME_LIB"), program); err != nil {
				return err
			}
			if err := free(cmd.Context(), addr); err != nil {
				return err
			}
			env := map[string]string{"HOST": host, "PORT": port, "MODEL": args[0], "DEVICE": device}
			if timeout != "" {
				env["TIMEOUT"] = timeout
			}
			if level != "" {
				env["LOG_LEVEL"] = level
			}
			if queue != 0 {
				env["QUEUE"] = fmt.Sprint(queue)
			}
			if maxBody != 0 {
				env["MAX_BODY"] = fmt.Sprint(maxBody)
			}
			a.announce(p, addr)
			err = syscall.Exec(program, []string{program}, withEnv(os.Environ(), env))
			return fmt.Errorf("run %s: %w", program, err) // Exec returns only then
		},
	}
	f := cmd.Flags()
	f.StringVar(&addr, "addr", defaultServeAddress, "host:port to listen at; without host, at all addresses")
	deviceFlag(cmd, &device)
	f.IntVar(&queue, "queue", 0, "requests inside at once, waiting ones included (default 64)")
	f.Int64Var(&maxBody, "max-body", 0, "bytes of a request's body (default 16 MiB)")
	f.StringVar(&timeout, "timeout", "", "for one request, such as 5s (default 20s)")
	f.StringVar(&level, "log-level", "", "debug, info, warn or error (default info)")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	return cmd
}

var devices = []string{onnx.CPU, onnx.CUDA, onnx.Auto}

// deviceFlag is where a graph runs.
func deviceFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "device", onnx.CPU, "where the graph runs: "+strings.Join(devices, ", "))
	_ = cmd.RegisterFlagCompletionFunc("device", cobra.FixedCompletions(devices, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
}

func checkDevice(device string) error {
	if !slices.Contains(devices, device) {
		return usagef("--device %q: use %s", device, strings.Join(devices, ", "))
	}
	return nil
}

// classifier is the program that serves: beside this one, where make build
// puts it, or on the PATH.
func classifier() (string, error) {
	const name = "classifier"
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), name)
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
		return beside, nil
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("the program %s, which serves models, is neither beside %s nor on the PATH: make build puts it there", name, self)
	}
	return filepath.Abs(found)
}

// free is an error when somebody listens at addr already.
func free(ctx context.Context, addr string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err == nil {
		return l.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		if who := holder(addr); who != "" {
			return fmt.Errorf("%s is taken by %s; end that, or choose another: --addr HOST:PORT", addr, who)
		}
		return fmt.Errorf("%s is taken; choose another: --addr HOST:PORT", addr)
	}
	return fmt.Errorf("listen at %s: %w", addr, err)
}

// withEnv is base with its variables replaced by those of set.
func withEnv(base []string, set map[string]string) []string {
	env := slices.DeleteFunc(slices.Clone(base), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, replaced := set[name]
		return replaced
	})
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	return env
}

// announce says what is served, and how to try it.
func (a *app) announce(p *model.Package, addr string) {
	host, port, _ := net.SplitHostPort(addr) // checked
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	at := "http://" + net.JoinHostPort(host, port)
	s := p.Spec
	a.err.Printf("Serving %s %s at %s. Once it is ready, try:\n", s.Name, s.Version, at)
	switch {
	case s.Preprocess.Kind == model.Picture:
		picture := "photo.jpg"
		if i := slices.IndexFunc(s.Examples, func(e model.Example) bool { return e.Image != "" }); i >= 0 {
			picture = filepath.Join(p.Dir, s.Examples[i].Image)
		}
		a.err.Printf("  curl -s %s/v1/classify -H 'Content-Type: image/*' --data-binary @%s\n", at, quote(picture))
	case s.Preprocess.Kind != model.None:
		a.err.Printf("  curl -s %s/v1/classify -H 'Content-Type: application/json' -d %s\n", at, quote(sample(s)))
	}
	a.err.Printf("  curl -s %s/v2/models/%s\n", at, s.Name)
}

// sample is a product to try: the first example, or one with the fields that
// are read.
func sample(s model.Spec) string {
	for _, e := range s.Examples {
		if e.Product != nil {
			if text, err := json.Marshal(e.Product); err == nil {
				return string(text)
			}
		}
	}
	product := map[string]string{"title": "Men blue denim jeans"}
	for _, f := range s.Reads {
		switch f {
		case "brand":
			product[f] = "Larkfield"
		case "description":
			product[f] = "Straight cut, five pockets"
		}
	}
	text, _ := json.Marshal(product) // a map of texts
	return string(text)
}

// quote makes one word of a shell's of text.
func quote(text string) string {
	if text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
