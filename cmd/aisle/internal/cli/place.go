package cli

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative"
	"aisle.dev/aisle/internal/client/objects"
)

// engineDir is the folder of the engine that a command means.
func (a *app) engineDir() (string, error) {
	if dir := cmp.Or(a.dataDir, a.Getenv("AISLE_DATA_DIR")); dir != "" {
		return filepath.Abs(dir)
	}
	if state := a.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) { // the specification ignores relative ones
		return filepath.Join(state, "aisle"), nil
	}
	home := a.Getenv("HOME")
	if home == "" {
		return "", usagef("there is no home folder to keep state in; say where with --data-dir DIR")
	}
	return filepath.Join(home, ".local", "state", "aisle"), nil
}

// place is where a command's services run: the engine of this machine, or a
// cluster.
type place interface {
	client.Client
	client.Describer
	Objects() *objects.Client
}

// clusterFlags say which cluster is meant, in kubectl's words. Without a
// context and a kubeconfig of this command's own the engine of this machine is:
// who has KUBECONFIG in his profile still means that.
type clusterFlags struct {
	context, kubeconfig, namespace, gateway string
	all                                     bool
	timeout                                 time.Duration
	engine, tokenFile                       string // an engine elsewhere
}

func (a *app) clusterFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.at.context, "context", "", "a cluster: this context of the kubeconfig (default $AISLE_CONTEXT; without any the engine on this machine)")
	f.StringVar(&a.at.kubeconfig, "kubeconfig", "", "a cluster: this kubeconfig (default $KUBECONFIG, else ~/.kube/config, where a context is given)")
	f.StringVarP(&a.at.namespace, "namespace", "n", "", "the services' namespace (default: the context's; on this machine \"default\", and all in lists)")
	f.StringVar(&a.at.gateway, "gateway", "", "host:port of the cluster's ingress, where services' names do not resolve (default $AISLE_GATEWAY)")
	f.StringVar(&a.at.engine, "engine", "", "an engine that serves its admin API over TCP: its URL (default $AISLE_ENGINE; needs a token)")
	f.StringVar(&a.at.tokenFile, "token-file", "", "file with the token for --engine (default: the token is in $AISLE_TOKEN)")
	f.DurationVar(&a.at.timeout, "request-timeout", 15*time.Second, "for one request to a cluster's API server")
	_ = cmd.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { // fails only for a flag that is not there
		names, _ := knative.Contexts(a.clusterOptions()) // without a kubeconfig there is nothing to complete
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	_ = cmd.RegisterFlagCompletionFunc("kubeconfig", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)) // files; likewise
}

func (a *app) clusterOptions() knative.Options {
	o := knative.Options{Kubeconfig: a.at.kubeconfig, Context: cmp.Or(a.at.context, a.Getenv("AISLE_CONTEXT")), Namespace: a.at.namespace, Timeout: a.at.timeout}
	if o.Files = filepath.SplitList(a.Getenv("KUBECONFIG")); len(o.Files) == 0 {
		o.Files = []string{filepath.Join(a.Getenv("HOME"), ".kube", "config")}
	}
	return o
}

// onCluster is whether a cluster is meant. A flag outweighs the environment.
func (a *app) onCluster() bool {
	if a.at.context != "" || a.at.kubeconfig != "" {
		return true
	}
	return a.dataDir == "" && a.at.engine == "" && a.Getenv("AISLE_CONTEXT") != ""
}

// cluster is the cluster that is meant, or nil.
func (a *app) cluster() (*knative.Cluster, error) {
	if !a.onCluster() {
		return nil, nil
	}
	if a.at.engine != "" {
		return nil, usagef("--engine is of an engine, --context of a cluster: choose one")
	}
	if a.dataDir != "" {
		return nil, usagef("--data-dir is of the engine on this machine, --context of a cluster: choose one")
	}
	if a.at.timeout <= 0 {
		return nil, usagef("--request-timeout %v: use a duration such as 15s", a.at.timeout)
	}
	return knative.Open(a.clusterOptions())
}

// thisMachine refuses a cluster for a command that runs an engine.
func (a *app) thisMachine() error {
	if a.at.engine != "" {
		return usagef("this runs the services of this machine; --engine is of one that runs elsewhere")
	}
	if a.at.context != "" || a.at.kubeconfig != "" || a.at.namespace != "" || a.at.gateway != "" {
		return usagef("this runs the services of this machine; --context, --kubeconfig, --namespace and --gateway are of a cluster (deploy there with: aisle apply)")
	}
	return nil
}

// place is the client of the cluster that is meant, or of the engine here.
func (a *app) place() (place, error) {
	c, err := a.cluster()
	if err != nil {
		return nil, err
	}
	if c != nil {
		if a.at.all {
			c = c.In("")
		}
		return c, nil
	}
	e, err := a.engineAt()
	if err != nil {
		return nil, err
	}
	if !a.at.all {
		e.Namespace = a.at.namespace
	}
	return e, nil
}

// remote is the URL of the engine elsewhere that is meant; empty: the one here.
// A flag outweighs the environment.
func (a *app) remote() string {
	if a.at.engine != "" || a.dataDir != "" {
		return a.at.engine
	}
	return a.Getenv("AISLE_ENGINE")
}

// engineAt is the client of the engine here, or of the one that is meant
// elsewhere.
func (a *app) engineAt() (*client.Engine, error) {
	at := a.remote()
	if at == "" {
		dir, err := a.engineDir()
		if err != nil {
			return nil, err
		}
		return client.NewEngine(dir), nil
	}
	if a.dataDir != "" {
		return nil, usagef("--data-dir is of the engine on this machine, --engine of one elsewhere: choose one")
	}
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, usagef("--engine %q is not a URL such as http://127.0.0.1:8090", at)
	}
	token := a.Getenv("AISLE_TOKEN")
	if a.at.tokenFile != "" {
		text, err := os.ReadFile(a.at.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the token: %w", err)
		}
		token = string(text)
	}
	if token = strings.TrimSpace(token); token == "" {
		return nil, usagef("the engine at %s wants a token: --token-file FILE, or $AISLE_TOKEN", at)
	}
	return client.NewRemoteEngine(u, token), nil
}

// named is the namespace that names are of, and are shown without; "" where
// all namespaces of a cluster are meant.
func (a *app) named(p place) string {
	if c, ok := p.(*knative.Cluster); ok {
		return c.Namespace()
	}
	return cmp.Or(a.at.namespace, "default")
}

// listed is the namespace that lists are of; "" is all of them.
func (a *app) listed(p place) string {
	if c, ok := p.(*knative.Cluster); ok {
		return c.Namespace()
	}
	if a.at.all {
		return ""
	}
	return a.at.namespace
}

// where says in which namespace of a cluster there is nothing.
func (a *app) where(p client.Client) string {
	if c, ok := p.(*knative.Cluster); ok && c.Namespace() != "" {
		return " in namespace " + c.Namespace() + " (-A lists all namespaces, -n another one)"
	}
	return ""
}

// defaultAddress is where services are reached when no engine says otherwise.
const defaultAddress = "127.0.0.1:8080"

// target is where requests go.
type target struct {
	url     *url.URL
	gateway string // host:port that is dialled instead of the URL's, or empty
	help    string // what to do where it cannot be reached
}

const engineHelp = "start Aisle with: aisle up (or say where it runs: --to URL)"

// target reads --to, or finds a service.
func (a *app) target(ctx context.Context, to, service string) (target, error) {
	t := target{gateway: a.at.gateway, help: engineHelp}
	c, err := a.cluster()
	if err != nil {
		return t, err
	}
	if c != nil {
		t.help, t.gateway = c.Reach(), cmp.Or(t.gateway, a.Getenv("AISLE_GATEWAY"))
	}
	if t.gateway != "" {
		if _, _, err := net.SplitHostPort(t.gateway); err != nil {
			return t, usagef("--gateway %q is not HOST:PORT", t.gateway)
		}
	}
	switch {
	case c == nil && to == "" && t.gateway != "":
		return t, usagef("--gateway is a cluster's: say which with --context, or what to ask there with --to URL")
	case c == nil && to == "" && a.remote() != "":
		return t, usagef("an engine elsewhere serves its admin API at %s, and services at another address: say which with --to URL", a.remote())
	case c == nil && to == "":
		t.url = a.serviceURL(ctx, service)
		return t, nil
	case to == "":
		if to, err = c.URL(ctx, service); err != nil {
			return t, err
		}
	}
	if t.url, err = url.Parse(to); err != nil || t.url.Scheme != "http" && t.url.Scheme != "https" || t.url.Host == "" {
		return t, usagef("%q is not a URL such as http://composer.default.localhost:8080", to)
	}
	return t, nil
}

// serviceURL is the address of a service of this machine: at the engine that
// runs, else where one runs by default.
func (a *app) serviceURL(ctx context.Context, service string) *url.URL {
	return urlOf(service, cmp.Or(a.at.namespace, "default"), a.engineAddress(ctx))
}

// engineAddress is where the engine of this machine serves, or would by default.
func (a *app) engineAddress(ctx context.Context) (address string) {
	address = defaultAddress
	if dir, err := a.engineDir(); err == nil {
		if _, err := os.Stat(filepath.Join(dir, client.SocketName)); err == nil {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			if v, err := client.NewEngine(dir).Version(ctx); err == nil {
				address = v.Address
			}
		}
	}
	return address
}

func urlOf(service, namespace, address string) *url.URL {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		port = "8080"
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(service+"."+namespace+".localhost", port)}
}

// completing is how long somebody waits who has pressed Tab.
const completing = 2 * time.Second

// serviceNames completes services' names.
func (a *app) serviceNames(cmd *cobra.Command) ([]string, cobra.ShellCompDirective) {
	return a.names(cmd, objects.Service), cobra.ShellCompDirectiveNoFileComp
}
