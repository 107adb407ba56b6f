package oip_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"aisle.dev/aisle/internal/oip"
	"aisle.dev/aisle/internal/problem"
)

// protocol is the published service's messages: each field's name, number and
// type; * is repeated. A map is a list of entries on the wire.
var protocol = map[string]string{
	"Empty":                      "",
	"Live":                       "live=1:bool",
	"Ready":                      "ready=1:bool",
	"ServerMetadata":             "name=1:string version=2:string extensions=3:*string",
	"Model":                      "name=1:string version=2:string",
	"ModelMetadata":              "name=1:string versions=2:*string platform=3:string inputs=4:*TensorMetadata outputs=5:*TensorMetadata properties=6:*Property",
	"TensorMetadata":             "name=1:string datatype=2:string shape=3:*int64",
	"Property":                   "key=1:string value=2:string",
	"ModelInferRequest":          "model_name=1:string model_version=2:string id=3:string parameters=4:*Parameter inputs=5:*InferInputTensor outputs=6:*InferRequestedOutputTensor raw_input_contents=7:*bytes",
	"Parameter":                  "key=1:string value=2:InferParameter",
	"InferParameter":             "bool_param=1:bool int64_param=2:int64 string_param=3:string double_param=4:double uint64_param=5:uint64",
	"InferInputTensor":           "name=1:string datatype=2:string shape=3:*int64 parameters=4:*Parameter contents=5:InferTensorContents",
	"InferRequestedOutputTensor": "name=1:string parameters=2:*Parameter",
	"InferTensorContents":        "bool_contents=1:*bool int_contents=2:*int32 int64_contents=3:*int64 uint_contents=4:*uint32 uint64_contents=5:*uint64 fp32_contents=6:*float fp64_contents=7:*double bytes_contents=8:*bytes",
	"ModelInferResponse":         "model_name=1:string model_version=2:string id=3:string outputs=5:*InferOutputTensor raw_output_contents=6:*bytes",
	"InferOutputTensor":          "name=1:string datatype=2:string shape=3:*int64",
}

// message returns an empty message of the protocol's, as protocol buffers'
// own library sees it.
func message(t testing.TB, name string) *dynamicpb.Message {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("test.proto"), Package: proto.String("inference")}
	for m, fields := range protocol {
		d := &descriptorpb.DescriptorProto{Name: proto.String(m)}
		for f := range strings.FieldsSeq(fields) {
			var number int32
			var kind string
			left, right, _ := strings.Cut(f, "=")
			if _, err := fmt.Sscanf(strings.Replace(right, ":", " ", 1), "%d %s", &number, &kind); err != nil {
				t.Fatal(err)
			}
			field := &descriptorpb.FieldDescriptorProto{Name: proto.String(left), Number: proto.Int32(number), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
			kind, repeated := strings.CutPrefix(kind, "*")
			if n, ok := descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+strings.ToUpper(kind)]; ok {
				field.Type = descriptorpb.FieldDescriptorProto_Type(n).Enum()
			} else {
				field.Type, field.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".inference."+kind)
			}
			if repeated {
				field.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
				if kind != "string" && kind != "bytes" && field.TypeName == nil {
					field.Options = &descriptorpb.FieldOptions{Packed: proto.Bool(true)}
				}
			}
			d.Field = append(d.Field, field)
		}
		file.MessageType = append(file.MessageType, d)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewMessage(fd.Messages().ByName(protoreflect.Name(name)))
}

// textMessage is a message in protocol buffers' text form.
func textMessage(t testing.TB, name, text string) *dynamicpb.Message {
	t.Helper()
	m := message(t, name)
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

const service = "/inference.GRPCInferenceService/"

func TestGRPC(t *testing.T) {
	conn := dial(t, start(t, oip.Options{Version: "v1"}, sums(t)))
	waking := sums(t)
	waking.err = problem.New(503, "this instance is still starting")
	notReady := dial(t, start(t, oip.Options{}, waking))
	const sumsMetadata = `name: "sums" versions: ["2", "1"] platform: "onnx_onnxv1"
		inputs {name: "x" datatype: "FP32" shape: [-1, 2]} inputs {name: "y" datatype: "FP32" shape: [-1, 2]}
		outputs {name: "sum" datatype: "FP32" shape: [-1, 2]} outputs {name: "difference" datatype: "FP32" shape: [-1, 2]}
		properties {key: "device" value: "cpu"} properties {key: "digest" value: "sha256:1"}`
	const raw = `inputs {name: "x" datatype: "FP32" shape: [1, 2]} inputs {name: "y" datatype: "FP32" shape: [1, 2]}
		raw_input_contents: "\x00\x00\x80\x3f\x00\x00\x00\x40" raw_input_contents: "\x00\x00\x40\x40\x00\x00\xa0\x40"`
	const typed = `inputs {name: "y" datatype: "FP32" shape: [1, 2] contents {fp32_contents: [3, 5]}} inputs {name: "x" datatype: "FP32" shape: [1, 2] contents {fp32_contents: [1, 2]}}`
	const sum = `model_name: "sums" model_version: "2" outputs {name: "sum" datatype: "FP32" shape: [1, 2]} raw_output_contents: "\x00\x00\x80\x40\x00\x00\xe0\x40"`
	const both = `outputs {name: "sum" datatype: "FP32" shape: [1, 2]} raw_output_contents: "\x00\x00\x80\x40\x00\x00\xe0\x40" outputs {name: "difference" datatype: "FP32" shape: [1, 2]} raw_output_contents: "\x00\x00\x00\xc0\x00\x00\x40\xc0"`
	for _, tt := range []struct {
		name, method, in, request, out, want string
		conn                                 *grpc.ClientConn
	}{
		{name: "live", method: "ServerLive", in: "Empty", out: "Live", want: `live: true`},
		{name: "ready", method: "ServerReady", in: "Empty", out: "Ready", want: `ready: true`},
		{name: "not ready", method: "ServerReady", in: "Empty", out: "Ready", want: `ready: false`, conn: notReady},
		{name: "model ready", method: "ModelReady", in: "Model", request: `name: "sums" version: "1"`, out: "Ready", want: `ready: true`},
		{name: "model not ready", method: "ModelReady", in: "Model", request: `name: "sums"`, out: "Ready", want: `ready: false`, conn: notReady},
		{name: "server", method: "ServerMetadata", in: "Empty", out: "ServerMetadata", want: `name: "aisle" version: "v1" extensions: "binary_tensor_data"`},
		{name: "model", method: "ModelMetadata", in: "Model", request: `name: "sums"`, out: "ModelMetadata", want: sumsMetadata},
		{name: "raw", method: "ModelInfer", in: "ModelInferRequest", request: `model_name: "sums" id: "a1" ` + raw, out: "ModelInferResponse", want: `model_name: "sums" model_version: "2" id: "a1" ` + both},
		{name: "typed, version, one output", method: "ModelInfer", in: "ModelInferRequest", request: `model_name: "sums" model_version: "1" outputs {name: "sum"} ` + typed, out: "ModelInferResponse", want: sum},
		{name: "no rows", method: "ModelInfer", in: "ModelInferRequest", request: `model_name: "sums" outputs {name: "sum"} inputs {name: "x" datatype: "FP32" shape: [0, 2]} inputs {name: "y" datatype: "FP32" shape: [0, 2] contents {}}`,
			out: "ModelInferResponse", want: `model_name: "sums" model_version: "2" outputs {name: "sum" datatype: "FP32" shape: [0, 2]} raw_output_contents: ""`},
	} {
		for _, compressor := range []string{"", gzip.Name} {
			t.Run(tt.name+compressor, func(t *testing.T) {
				if tt.conn == nil {
					tt.conn = conn
				}
				got := message(t, tt.out)
				var opts []grpc.CallOption
				if compressor != "" {
					opts = append(opts, grpc.UseCompressor(compressor))
				}
				if err := tt.conn.Invoke(t.Context(), service+tt.method, textMessage(t, tt.in, tt.request), got, opts...); err != nil {
					t.Fatal(err)
				}
				a, _ := prototext.Marshal(got)
				b, _ := prototext.Marshal(textMessage(t, tt.out, tt.want))
				if string(a) != string(b) {
					t.Errorf("got  %s\nwant %s", a, b)
				}
			})
		}
	}
}

// Every datatype that has typed contents comes through as what was meant.
func TestTypedContents(t *testing.T) {
	for datatype, tt := range map[string]struct{ contents, raw string }{
		"BOOL":   {`bool_contents: [true, false]`, "\x01\x00"},
		"INT8":   {`int_contents: [-128, 127]`, "\x80\x7f"},
		"INT16":  {`int_contents: [-2, 258]`, "\xfe\xff\x02\x01"},
		"INT32":  {`int_contents: [-1, 2147483647]`, "\xff\xff\xff\xff\xff\xff\xff\x7f"},
		"INT64":  {`int64_contents: [-1, 1]`, "\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00"},
		"UINT8":  {`uint_contents: [0, 255]`, "\x00\xff"},
		"UINT16": {`uint_contents: [1, 65535]`, "\x01\x00\xff\xff"},
		"UINT32": {`uint_contents: [1, 4294967295]`, "\x01\x00\x00\x00\xff\xff\xff\xff"},
		"UINT64": {`uint64_contents: [1, 18446744073709551615]`, "\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"},
		"FP32":   {`fp32_contents: [1, nan]`, "\x00\x00\x80\x3f\x00\x00\xc0\x7f"},
		"FP64":   {`fp64_contents: [1, -inf]`, "\x00\x00\x00\x00\x00\x00\xf0\x3f\x00\x00\x00\x00\x00\x00\xf0\xff"},
		"BYTES":  {`bytes_contents: ["", "Jeans"]`, "\x00\x00\x00\x00\x05\x00\x00\x00Jeans"},
	} {
		t.Run(datatype, func(t *testing.T) {
			conn := dial(t, start(t, oip.Options{}, echo(t, datatype)))
			got := message(t, "ModelInferResponse")
			in := textMessage(t, "ModelInferRequest", fmt.Sprintf(`model_name: %q inputs {name: "x" datatype: %[1]q shape: [1, 2] contents {%s}}`, datatype, tt.contents))
			if err := conn.Invoke(t.Context(), service+"ModelInfer", in, got); err != nil {
				t.Fatal(err)
			}
			raw := got.Get(got.Descriptor().Fields().ByName("raw_output_contents")).List()
			if raw.Len() != 1 || string(raw.Get(0).Bytes()) != tt.raw {
				t.Errorf("%v", got)
			}
		})
	}
}

// bytesCodec is a codec whose messages are bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (bytesCodec) Name() string                       { return "proto" }

func TestBadGRPC(t *testing.T) {
	full := sums(t)
	full.Name = "full"
	full.infer = func(oip.Request) error {
		return &problem.Error{Status: 503, Detail: "full: 100% of 64 places", RetryAfter: 1500 * time.Millisecond}
	}
	broken := sums(t)
	broken.Name = "broken"
	broken.infer = func(oip.Request) error { panic("a bug") }
	conn := dial(t, start(t, oip.Options{MaxBody: 16 << 10}, sums(t), echo(t, "INT8"), echo(t, "FP16"), echo(t, "BYTES"), full, broken))
	const x, y = `inputs {name: "x" datatype: "FP32" shape: [1, 2] contents {fp32_contents: [1, 2]}} `, `inputs {name: "y" datatype: "FP32" shape: [1, 2] contents {fp32_contents: [1, 2]}} `
	one := func(model, datatype, rest string) string {
		return fmt.Sprintf(`model_name: %q inputs {name: "x" datatype: %q %s}`, model, datatype, rest)
	}
	for _, tt := range []struct {
		name, request string
		code          codes.Code
		want          string
	}{
		{"unknown model", `model_name: "prices"`, codes.NotFound, `there is no model "prices" here`},
		{"unknown version", `model_name: "sums" model_version: "9"`, codes.NotFound, `has no version "9"`},
		{"full", `model_name: "full" ` + x + y, codes.Unavailable, "full: 100% of 64 places"},
		{"a bug", `model_name: "broken" ` + x + y, codes.Internal, "internal error; the service's log says more"},
		{"missing", `model_name: "sums" ` + x, codes.InvalidArgument, `input "y" is missing`},
		{"surplus", `model_name: "sums" inputs {name: "é" datatype: "BOOL" shape: [1] contents {bool_contents: true}} ` + x + y, codes.InvalidArgument, `input "é" is none of this model's`},
		{"twice", `model_name: "sums" ` + x + x, codes.InvalidArgument, `input "x" is given twice`},
		{"wrong datatype", one("sums", "INT32", "shape: [1, 2] contents {int_contents: [1, 2]}"), codes.InvalidArgument, `is of "INT32"; the model takes FP32`},
		{"unknown datatype", one("sums", "float", ""), codes.InvalidArgument, `its datatype "float" is not one`},
		{"contents of another datatype", one("sums", "FP32", "shape: [1, 2] contents {int_contents: [1, 2]}"), codes.InvalidArgument, `its contents are in field 2 of InferTensorContents; FP32 belongs into 6`},
		{"too few", one("sums", "FP32", "shape: [1, 2] contents {fp32_contents: [1]}"), codes.InvalidArgument, `wants 2 elements; its contents have 1`},
		{"negative dimension", one("sums", "FP32", "shape: [-1, 2] contents {fp32_contents: [1, 2]}"), codes.InvalidArgument, `want dimensions from 0`},
		{"overflowing dimensions", one("sums", "FP32", "shape: [2147483647, 2147483647]"), codes.InvalidArgument, `fewer than 2^31 elements`},
		{"many dimensions", one("sums", "FP32", "shape: ["+strings.Repeat("1,", 400)+"1]"), codes.InvalidArgument, `dimensions; want at most 32`},
		{"outside INT8", one("INT8", "INT8", "shape: [1, 1] contents {int_contents: 128}"), codes.InvalidArgument, `its element 0 is outside INT8`},
		{"FP16 typed", one("FP16", "FP16", "shape: [1, 1] contents {uint_contents: 1}"), codes.InvalidArgument, `send it in raw_input_contents`},
		{"raw for one of two", `model_name: "sums" raw_input_contents: "12345678" ` + x + y, codes.InvalidArgument, `1 raw_input_contents for 2 inputs`},
		{"raw and typed", `model_name: "sums" raw_input_contents: "12345678" raw_input_contents: "12345678" ` + x + y, codes.InvalidArgument, `it has contents, and the request raw_input_contents`},
		{"raw of the wrong size", `model_name: "sums" raw_input_contents: "1234567" inputs {name: "x" datatype: "FP32" shape: [1, 2]}`, codes.InvalidArgument, `wants 8 bytes; there are 7`},
		{"a string's length lies", `model_name: "BYTES" raw_input_contents: "\x09\x00\x00\x00ab" inputs {name: "x" datatype: "BYTES" shape: [1, 1]}`, codes.InvalidArgument, `says that it has 9 bytes; 2 are left`},
		{"unknown output", `model_name: "sums" outputs {name: "product"} ` + x + y, codes.InvalidArgument, `output "product" is none`},
		{"top classes", `model_name: "sums" outputs {name: "sum" parameters {key: "classification" value {int64_param: 3}}} ` + x + y, codes.InvalidArgument, `classification is not supported`},
		{"too large", `model_name: "sums" raw_input_contents: "` + strings.Repeat("x", 16<<10) + `"`, codes.ResourceExhausted, `at most 16384 are taken`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := conn.Invoke(t.Context(), service+"ModelInfer", textMessage(t, "ModelInferRequest", tt.request), message(t, "ModelInferResponse"))
			if s := status.Convert(err); s.Code() != tt.code || !strings.Contains(s.Message(), tt.want) {
				t.Errorf("%v\nwant %s: %s", err, tt.code, tt.want)
			}
		})
	}
	for name, method := range map[string]string{"of Triton's": "ModelConfig", "none": "Nothing"} {
		if err := conn.Invoke(t.Context(), service+method, textMessage(t, "Model", ""), message(t, "Empty")); status.Code(err) != codes.Unimplemented {
			t.Errorf("a method %s: %v", name, err)
		}
	}
	for name, raw := range map[string]string{"cut": "\x0a\x05su", "no field": "\x00", "endless number": "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "wrong type": "\x08\x01"} {
		var out []byte
		err := conn.Invoke(t.Context(), service+"ModelInfer", []byte(raw), &out, grpc.ForceCodec(bytesCodec{}))
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("a message that is %s: %v", name, err)
		}
	}
	bomb := textMessage(t, "ModelInferRequest", `model_name: "sums" raw_input_contents: "`+strings.Repeat("x", 1<<20)+`"`)
	if err := conn.Invoke(t.Context(), service+"ModelInfer", bomb, message(t, "Empty"), grpc.UseCompressor(gzip.Name)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a bomb: %v", err)
	}
}

// What no client's library would send.
func TestGRPCFraming(t *testing.T) {
	address := start(t, oip.Options{}, sums(t))
	framed := func(flag byte, n int, data string) string {
		return string(binary.BigEndian.AppendUint32([]byte{flag}, uint32(n))) + data
	}
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: h2}
	defer tr.CloseIdleConnections()
	for _, tt := range []struct {
		name, body string
		header     map[string]string
		code       string
		want       string
	}{
		{"no message", "", nil, "3", "the call ends before its message"},
		{"half a prefix", "\x00\x00", nil, "3", "the call ends before its message"},
		{"half a message", framed(0, 9, "1234"), nil, "3", "the message ends 5 bytes too early"},
		{"two messages", framed(0, 0, "") + framed(0, 0, ""), nil, "3", "there is a second message"},
		{"unknown flag", framed(2, 0, ""), nil, "3", "the message is flagged 2"},
		{"compressed by nothing", framed(1, 0, ""), nil, "3", "the message is flagged 1"},
		{"not gzip", framed(1, 12, "plain, plain"), map[string]string{"Grpc-Encoding": "gzip"}, "3", "not valid gzip"},
		{"unknown compression", framed(0, 0, ""), map[string]string{"Grpc-Encoding": "snappy"}, "12", "gzip is"},
		{"longer than all", framed(0, 1<<32-1, ""), nil, "8", "at most 65536 are taken"},
		{"bad timeout", framed(0, 0, ""), map[string]string{"Grpc-Timeout": "1 minute"}, "3", "grpc-timeout is"},
		{"long timeout", framed(0, 0, ""), map[string]string{"Grpc-Timeout": "99999999H"}, "0", ""},
		{"timeout and subtype", framed(0, 0, ""), map[string]string{"Grpc-Timeout": "100m", "Content-Type": "application/grpc+proto"}, "0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+service+"ServerLive", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/grpc")
			for k, v := range tt.header {
				r.Header.Set(k, v)
			}
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var b [64]byte
			for err == nil {
				_, err = resp.Body.Read(b[:])
			}
			if got := resp.Trailer; resp.StatusCode != 200 || got.Get("Grpc-Status") != tt.code || !strings.Contains(got.Get("Grpc-Message"), tt.want) {
				t.Errorf("%d %v; want %s %s", resp.StatusCode, got, tt.code, tt.want)
			}
		})
	}
	if code, _, body := send(t, "POST", "http://"+address+service+"ServerLive", map[string]string{"Content-Type": "application/grpc"}, nil); code != 505 || !strings.Contains(string(body), "gRPC needs HTTP/2") {
		t.Errorf("over HTTP/1.1: %d %s", code, body)
	}
}

// The caller's deadline ends the call, and a retry is put off as long as the
// refusal says.
func TestGRPCDeadline(t *testing.T) {
	slow := sums(t)
	ended := make(chan error, 1)
	slow.wait = func(ctx context.Context) { <-ctx.Done(); ended <- ctx.Err() }
	conn := dial(t, start(t, oip.Options{}, slow))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	in := textMessage(t, "ModelInferRequest", `model_name: "sums" inputs {name: "x" datatype: "FP32" shape: [0, 2]} inputs {name: "y" datatype: "FP32" shape: [0, 2]}`)
	if err := conn.Invoke(ctx, service+"ModelInfer", in, message(t, "Empty")); status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the inference was not told")
	}
	ownTimeout := dial(t, start(t, oip.Options{Timeout: 20 * time.Millisecond}, slow))
	if err := ownTimeout.Invoke(t.Context(), service+"ModelInfer", in, message(t, "Empty")); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "the deadline passed") {
		t.Error(err)
	}
	<-ended
}

// Kubernetes' probes ask gRPC's own health service.
func TestGRPCHealth(t *testing.T) {
	m := sums(t)
	waking := sums(t)
	waking.err = problem.New(503, "starting")
	for _, tt := range []struct {
		model   *model
		service string
		want    healthpb.HealthCheckResponse_ServingStatus
		code    codes.Code
	}{
		{m, "", healthpb.HealthCheckResponse_SERVING, codes.OK},
		{m, "inference.GRPCInferenceService", healthpb.HealthCheckResponse_SERVING, codes.OK},
		{waking, "", healthpb.HealthCheckResponse_NOT_SERVING, codes.OK},
		{m, "prices", healthpb.HealthCheckResponse_UNKNOWN, codes.NotFound},
	} {
		c := healthpb.NewHealthClient(dial(t, start(t, oip.Options{}, tt.model)))
		got, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: tt.service})
		if status.Code(err) != tt.code || got.GetStatus() != tt.want {
			t.Errorf("%q: %v, %v", tt.service, got, err)
		}
	}
}
