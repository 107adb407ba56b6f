// Package objects speaks Kubernetes' REST protocol: list, get, watch,
// server-side apply and delete. One client serves for a cluster's API server
// and for the engine of this machine, which answers the same protocol on its
// unix socket.
//
// Objects are Kubernetes' JSON, read into whatever type the caller wants. Every
// answer is bounded in bytes, a list also in objects, and every request that is
// no stream in time. [Follow] outlives watches that a server ends or no longer
// knows (HTTP 410).
//
// It knows no namespace but the one that it is told, decides nothing, and
// caches only which kinds a server has.
package objects

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/rest"
)

// Bounds.
const (
	pageSize       = 500
	maxObjects     = 10_000
	maxListBytes   = 64 << 20
	maxObjectBytes = 8 << 20 // etcd takes 1.5 MiB
)

// ErrSlow is in the chain of an error of a server that did not answer in time.
var ErrSlow = errors.New("no answer in time")

// Client asks one server.
type Client struct {
	rest    *rest.RESTClient
	timeout time.Duration
	explain func(err error, doing string, k Kind) error

	mu    sync.Mutex                           // guards known
	known map[schema.GroupVersion][]Discovered // kinds that were asked for
}

// Config is client-go's: where a server is, who asks, and how.
type Config = rest.Config

// New gives a client of the server that config names, asked through hc.
// Explain says to people what an error means and what to do; every error of
// the server or of the way to it passes through it. Its kind is the zero one
// where no kind was asked for.
func New(config *Config, hc *http.Client, timeout time.Duration, explain func(err error, doing string, k Kind) error) (*Client, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // Status, which errors are
	config = rest.CopyConfig(config)
	config.UserAgent, config.WarningHandler = "aisle", rest.NoWarnings{}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	asks, err := rest.UnversionedRESTClientForConfigAndClient(config, hc)
	if err != nil {
		return nil, err
	}
	return &Client{rest: asks, timeout: timeout, explain: explain, known: map[schema.GroupVersion][]Discovered{}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.rest.Client.CloseIdleConnections() }

// ask sends a request and reads its answer, of at most limit bytes, in time.
func (c *Client) ask(ctx context.Context, req *rest.Request, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, ErrSlow)
	defer cancel()
	body, err := req.Stream(ctx)
	var text []byte
	if err == nil {
		defer body.Close()
		text, err = io.ReadAll(io.LimitReader(body, limit+1))
		if err == nil && int64(len(text)) > limit {
			return nil, errTooLarge
		}
	}
	if err != nil && errors.Is(context.Cause(ctx), ErrSlow) {
		return nil, ErrSlow
	}
	return text, err
}

var errTooLarge = errors.New("the answer is too large")

// all is a request for the objects of a kind.
func (c *Client) all(verb string, k Kind, namespace string) *rest.Request {
	root := []string{"/apis", k.Group, k.Version}
	if k.Group == "" {
		root = []string{"/api", k.Version}
	}
	return c.rest.Verb(verb).AbsPath(root...).NamespaceIfScoped(namespace, namespace != "" && !k.Everywhere).Resource(k.Plural)
}

// one is a request for one object, or for something below it.
func (c *Client) one(verb string, k Kind, namespace, name string, sub ...string) *rest.Request {
	return c.all(verb, k, namespace).Name(name).SubResource(sub...)
}

// Raw gets what is at a path.
func (c *Client) Raw(ctx context.Context, path, doing string) ([]byte, error) {
	text, err := c.ask(ctx, c.rest.Get().AbsPath(path), maxObjectBytes)
	if err != nil {
		return nil, c.explain(err, doing, Kind{})
	}
	return text, nil
}

// List reads a whole list, page by page; namespace "" is all of them. Version
// is what a watch goes on from.
func List[T any](ctx context.Context, c *Client, k Kind, namespace, selector string) (all []T, version string, err error) {
	next, left := "", int64(maxListBytes)
	for {
		req := c.all(http.MethodGet, k, namespace).Param("limit", strconv.Itoa(pageSize))
		if selector != "" {
			req.Param("labelSelector", selector)
		}
		if next != "" {
			req.Param("continue", next)
		}
		text, err := c.ask(ctx, req, left)
		if errors.Is(err, errTooLarge) {
			return nil, "", fmt.Errorf("the %s have more than %d MB; choose a namespace with -n, or fewer with -l", k.Plural, maxListBytes>>20)
		}
		if err != nil {
			return nil, "", c.explain(err, "list "+k.Plural, k)
		}
		left -= int64(len(text))
		var page struct {
			Metadata metav1.ListMeta
			Items    []T
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, "", fmt.Errorf("read the list of %s: %w", k.Plural, err)
		}
		if all = append(all, page.Items...); len(all) > maxObjects || len(all) == maxObjects && page.Metadata.Continue != "" {
			return nil, "", fmt.Errorf("there are more than %d %s; choose a namespace with -n, or fewer with -l", maxObjects, k.Plural)
		}
		if next = page.Metadata.Continue; next == "" {
			return all, page.Metadata.ResourceVersion, nil
		}
	}
}

// Untyped reads a list of whatever kind; each object says what it is.
func (c *Client) Untyped(ctx context.Context, k Kind, namespace, selector string) ([]unstructured.Unstructured, error) {
	all, _, err := List[json.RawMessage](ctx, c, k, namespace, selector)
	if err != nil {
		return nil, err
	}
	read := make([]unstructured.Unstructured, len(all))
	for i, raw := range all {
		o, err := Decode(k, raw)
		if err != nil {
			return nil, err
		}
		read[i] = *o
	}
	return read, nil
}

// Decode reads an object of a kind; in a list it does not say what it is.
func Decode(k Kind, raw []byte) (*unstructured.Unstructured, error) {
	o := new(unstructured.Unstructured)
	if err := utiljson.Unmarshal(raw, &o.Object); err != nil || o.Object == nil {
		return nil, fmt.Errorf("read a %s: %w", k.Singular(), cmp.Or(err, errors.New("it is no object")))
	}
	o.SetGroupVersionKind(k.GroupVersion().WithKind(k.Name))
	return o, nil
}

// Get reads one object. One that is not there is an error for which
// [apierrors.IsNotFound] holds.
func Get[T any](ctx context.Context, c *Client, k Kind, namespace, name string) (*T, error) {
	text, err := c.ask(ctx, c.one(http.MethodGet, k, namespace, name), maxObjectBytes)
	if err != nil {
		return nil, c.explain(err, "get "+k.Singular()+" "+name, k)
	}
	o := new(T)
	if err := json.Unmarshal(text, o); err != nil {
		return nil, fmt.Errorf("read %s %s: %w", k.Singular(), name, err)
	}
	return o, nil
}

// Stream opens a subresource that is no object, such as a pod's log; params
// are pairs. Its error is as the server gave it.
func (c *Client) Stream(ctx context.Context, k Kind, namespace, name, sub string, params ...string) (io.ReadCloser, error) {
	req := c.one(http.MethodGet, k, namespace, name, sub)
	for i := 0; i+1 < len(params); i += 2 {
		req.Param(params[i], params[i+1])
	}
	return req.Stream(ctx)
}

// Manager is the field manager of what aisle applies.
const Manager = "aisle"

// Applying is how to apply.
type Applying struct {
	DryRun bool // the server says what would be, and changes nothing
	Force  bool // take over fields that another manager has set
	// Warn is told what the server warns of; nil: nobody is.
	// Versioned: an object that names the version that it was made from is
	// applied to that one alone, and else a conflict.
	Versioned bool
	Warn      func(text string)
}

// HandleWarningHeader implements [rest.WarningHandler].
func (a Applying) HandleWarningHeader(_ int, _, text string) {
	if a.Warn != nil {
		a.Warn(text)
	}
}

// Outcome of an apply.
type Outcome string

// What became of an applied object.
const (
	Created    Outcome = "created"
	Configured Outcome = "configured"
	Unchanged  Outcome = "unchanged"
)

// Apply makes the server's object what o says, by server-side apply. What a
// server alone may say (status, versions) is left out of o, but for what
// Applying.Versioned says.
func (c *Client) Apply(ctx context.Context, k Kind, o *unstructured.Unstructured, how Applying) (*unstructured.Unstructured, Outcome, error) {
	doing := "apply " + k.Singular() + " " + o.GetName()
	var before *unstructured.Unstructured
	text, err := c.ask(ctx, c.one(http.MethodGet, k, o.GetNamespace(), o.GetName()), maxObjectBytes)
	if err == nil {
		before, err = Decode(k, text)
	}
	if err != nil && !(apierrors.IsNotFound(err) && named(err)) {
		return nil, "", c.explain(err, doing, k)
	}
	body := ours(o.Object)
	if version := o.GetResourceVersion(); how.Versioned && version != "" {
		_ = unstructured.SetNestedField(body, version, "metadata", "resourceVersion") // o has metadata
	}
	text, err = json.Marshal(body)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", doing, err)
	}
	req := c.one(http.MethodPatch, k, o.GetNamespace(), o.GetName()).SetHeader("Content-Type", string(types.ApplyPatchType)).Param("fieldManager", Manager).Param("force", strconv.FormatBool(how.Force)).Body(text).WarningHandler(how)
	if how.DryRun {
		req.Param("dryRun", metav1.DryRunAll)
	}
	text, err = c.ask(ctx, req, maxObjectBytes)
	if err != nil {
		return nil, "", c.explain(err, doing, k)
	}
	after, err := Decode(k, text)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", doing, err)
	}
	switch {
	case before == nil:
		return after, Created, nil
	case same(before.Object, after.Object):
		return after, Unchanged, nil
	}
	return after, Configured, nil
}

// Over writes an object in the place of the one that was read, or of none (nil),
// and of no other: it is a conflict where somebody has changed it meanwhile. All
// of its spec is o's then, whoever set what was there; of its metadata the
// annotations of o.
func (c *Client) Over(ctx context.Context, k Kind, before, o *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	doing := "write " + k.Singular() + " " + o.GetName()
	var req *rest.Request
	body := ours(o.Object)
	if before == nil {
		req = c.all(http.MethodPost, k, o.GetNamespace())
	} else {
		spec, _, _ := unstructured.NestedMap(o.Object, "spec") // none has none
		old, _, _ := unstructured.NestedMap(before.Object, "spec")
		for field := range old {
			if _, stays := spec[field]; !stays {
				spec[field] = nil
			}
		}
		body = map[string]any{"spec": spec, "metadata": map[string]any{
			"uid": string(before.GetUID()), "resourceVersion": before.GetResourceVersion(), "annotations": o.GetAnnotations()}}
		req = c.one(http.MethodPatch, k, o.GetNamespace(), o.GetName()).SetHeader("Content-Type", string(types.MergePatchType))
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	req.Param("fieldManager", Manager).Body(text)
	if dryRun {
		req.Param("dryRun", metav1.DryRunAll)
	}
	if text, err = c.ask(ctx, req, maxObjectBytes); err != nil {
		return nil, c.explain(err, doing, k)
	}
	return Decode(k, text)
}

// serverSide are the parts of an object's metadata that servers write.
var serverSide = []string{"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"}

// ours is an object without what servers write into it.
func ours(o map[string]any) map[string]any {
	o = maps.Clone(o)
	delete(o, "status")
	if meta, ok := o["metadata"].(map[string]any); ok {
		meta = maps.Clone(meta)
		maps.DeleteFunc(meta, func(key string, _ any) bool { return slices.Contains(serverSide, key) })
		o["metadata"] = meta
	}
	return o
}

// same is whether nothing differs that people write.
func same(a, b map[string]any) bool {
	x, errX := json.Marshal(ours(a)) // keys are sorted
	y, errY := json.Marshal(ours(b))
	return errX == nil && errY == nil && string(x) == string(y)
}

// Delete asks for an object's end; what it owns goes after it.
func (c *Client) Delete(ctx context.Context, k Kind, namespace, name string, dryRun bool) error {
	return c.delete(ctx, c.one(http.MethodDelete, k, namespace, name).Param("propagationPolicy", string(metav1.DeletePropagationBackground)), k, name, dryRun)
}

// DeleteRead is Delete of an object as it was read: it is a conflict where
// somebody has changed it meanwhile.
func (c *Client) DeleteRead(ctx context.Context, k Kind, read *unstructured.Unstructured, dryRun bool) error {
	text, err := json.Marshal(metav1.DeleteOptions{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}, PropagationPolicy: new(metav1.DeletePropagationBackground),
		Preconditions: &metav1.Preconditions{UID: new(read.GetUID()), ResourceVersion: new(read.GetResourceVersion())},
	})
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", k.Singular(), read.GetName(), err)
	}
	return c.delete(ctx, c.one(http.MethodDelete, k, read.GetNamespace(), read.GetName()).SetHeader("Content-Type", "application/json").Body(text), k, read.GetName(), dryRun)
}

func (c *Client) delete(ctx context.Context, req *rest.Request, k Kind, name string, dryRun bool) error {
	if dryRun {
		req.Param("dryRun", metav1.DryRunAll)
	}
	if _, err := c.ask(ctx, req, maxObjectBytes); err != nil {
		return c.explain(err, "delete "+k.Singular()+" "+name, k)
	}
	return nil
}

// named tells an object that is not there from a kind that the server does not
// know: the former is named.
func named(err error) bool {
	s, ok := errors.AsType[*apierrors.StatusError](err)
	// For a path that a server does not know it has no Status; client-go makes one.
	return ok && s.ErrStatus.Details != nil && s.ErrStatus.Details.Name != "" && !apierrors.IsUnexpectedServerError(err)
}

// NoKind is whether err says that the server does not know the kind at all.
func NoKind(err error) bool { return apierrors.IsNotFound(err) && !named(err) }

// Discovered is a kind as a server tells of it.
type Discovered struct {
	Name       string `json:"kind"`
	Plural     string `json:"name"`
	Namespaced bool   `json:"namespaced"`
}

// Find gives the kind of an object, asking the server where Aisle has no such
// kind itself.
func (c *Client) Find(ctx context.Context, apiVersion, kind string) (Kind, error) {
	if k, ok := Of(apiVersion, kind); ok {
		return k, nil
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return Kind{}, fmt.Errorf("apiVersion %q: write GROUP/VERSION, or v1", apiVersion)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	there, asked := c.known[gv]
	if !asked {
		root := "/apis/"
		if gv.Group == "" {
			root = "/api/"
		}
		text, err := c.ask(ctx, c.rest.Get().AbsPath(root+gv.String()), maxObjectBytes)
		if err != nil && !apierrors.IsNotFound(err) {
			return Kind{}, c.explain(err, "ask for the kinds of "+apiVersion, Kind{Group: gv.Group, Version: gv.Version})
		}
		var list struct{ Resources []Discovered }
		if err == nil {
			if err := json.Unmarshal(text, &list); err != nil {
				return Kind{}, fmt.Errorf("read the kinds of %s: %w", apiVersion, err)
			}
		}
		there = list.Resources
		c.known[gv] = there
	}
	for _, d := range there {
		if d.Name == kind && !strings.Contains(d.Plural, "/") { // a subresource
			return Kind{Group: gv.Group, Version: gv.Version, Name: kind, Plural: d.Plural, Everywhere: !d.Namespaced}, nil
		}
	}
	return Kind{}, fmt.Errorf("%w: apiVersion %s, kind %s", ErrNoKind, apiVersion, kind)
}

// ErrNoKind is in the chain of an error of a kind that a server does not have.
var ErrNoKind = errors.New("there is no such kind here")
