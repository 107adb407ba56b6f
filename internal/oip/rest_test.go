package oip_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/oip"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
)

// send makes one request, and keeps no connection.
func send(t testing.TB, method, url string, header map[string]string, body []byte) (int, http.Header, []byte) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, got
}

func TestREST(t *testing.T) {
	m := sums(t)
	waking := sums(t)
	waking.Name, waking.err = "waking", problem.New(503, "this instance is still starting")
	url := "http://" + start(t, oip.Options{Version: "v1"}, m)
	notReady := "http://" + start(t, oip.Options{}, m, waking)
	const two = `{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"y","shape":[1,2],"datatype":"FP32","data":[[3,5]]}`
	for _, tt := range []struct {
		name, method, url, body string
		status                  int
		want                    string
	}{
		{"live", "GET", url + "/v2/health/live", "", 200, `{"live":true}`},
		{"ready", "GET", url + "/v2/health/ready", "", 200, `{"ready":true}`},
		{"not ready", "GET", notReady + "/v2/health/ready", "", 400, `{"error":"not ready: this instance is still starting"}`},
		{"live though not ready", "GET", notReady + "/v2/health/live", "", 200, `{"live":true}`},
		{"server", "GET", url + "/v2", "", 200, `{"name":"aisle","version":"v1","extensions":["binary_tensor_data"]}`},
		{"model", "GET", url + "/v2/models/sums", "", 200, `{"name":"sums","versions":["2","1"],"platform":"onnx_onnxv1",` +
			`"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]},{"name":"y","datatype":"FP32","shape":[-1,2]}],` +
			`"outputs":[{"name":"sum","datatype":"FP32","shape":[-1,2]},{"name":"difference","datatype":"FP32","shape":[-1,2]}],` +
			`"parameters":{"device":"cpu","digest":"sha256:1"}}`},
		{"model, HEAD", "HEAD", url + "/v2/models/sums/versions/1", "", 200, ""},
		{"model ready", "GET", notReady + "/v2/models/sums/ready", "", 200, `{"name":"sums","ready":true}`},
		{"model ready, version", "GET", url + "/v2/models/sums/versions/2/ready", "", 200, `{"name":"sums","ready":true}`},
		{"model not ready", "GET", notReady + "/v2/models/waking/ready", "", 400, `{"error":"not ready: this instance is still starting"}`},
		{"infer", "POST", url + "/v2/models/sums/infer", `{"id":"a\"1","inputs":[` + two + `]}`, 200,
			`{"model_name":"sums","model_version":"2","id":"a\"1","outputs":[{"name":"sum","datatype":"FP32","shape":[1,2],"data":[4,7]},{"name":"difference","datatype":"FP32","shape":[1,2],"data":[-2,-3]}]}`},
		{"infer, version, one output", "POST", url + "/v2/models/sums/versions/1/infer", `{"outputs":[{"name":"difference"}],"inputs":[` + two + `]}`, 200,
			`{"model_name":"sums","model_version":"2","outputs":[{"name":"difference","datatype":"FP32","shape":[1,2],"data":[-2,-3]}]}`},
		{"infer, escaped name", "POST", url + "/v2/models/su%6Ds/infer", `{"outputs":[{"name":"sum"}],"inputs":[` + two + `]}`, 200,
			`{"model_name":"sums","model_version":"2","outputs":[{"name":"sum","datatype":"FP32","shape":[1,2],"data":[4,7]}]}`},
		{"data before shape, unknown members, null", "POST", url + "/v2/models/sums/infer",
			`{"id":null,"extra":{"a":[1]},"parameters":{"sequence_id":0,"p":null},"outputs":[{"name":"sum"}],"inputs":[{"data":[ [1.5e0 ,2],
			[3,-4] ],"shape":[2,2],"datatype":"FP32","name":"x"},{"name":"y","shape":[2,2],"datatype":"FP32","data":[0,0,0,0]}]}`, 200,
			`{"model_name":"sums","model_version":"2","outputs":[{"name":"sum","datatype":"FP32","shape":[2,2],"data":[1.5,2,3,-4]}]}`},
		{"no rows", "POST", url + "/v2/models/sums/infer", `{"outputs":[{"name":"sum"}],"inputs":[{"name":"x","shape":[0,2],"datatype":"FP32","data":[]},{"name":"y","shape":[0,2],"datatype":"FP32","data":[]}]}`, 200,
			`{"model_name":"sums","model_version":"2","outputs":[{"name":"sum","datatype":"FP32","shape":[0,2],"data":[]}]}`},

		{"unknown model", "POST", url + "/v2/models/prices/infer", "{}", 404, `{"error":"there is no model \"prices\" here"}`},
		{"unknown version", "GET", url + "/v2/models/sums/versions/3", "", 404, `{"error":"model \"sums\" has no version \"3\"; it has [\"2\" \"1\"]"}`},
		{"unknown path", "POST", url + "/v2/models/sums/train", "", 404, `there is nothing at /v2/models/sums/train`},
		{"repository", "POST", url + "/v2/repository/index", "", 404, `there is nothing at`},
		{"GET of infer", "GET", url + "/v2/models/sums/infer", "", 405, `{"error":"/v2/models/sums/infer takes POST"}`},
		{"POST of metadata", "POST", url + "/v2/models/sums", "", 405, `takes GET`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, header, body := send(t, tt.method, tt.url, nil, []byte(tt.body))
			exact := strings.HasPrefix(tt.want, "{") || tt.want == ""
			if status != tt.status || header.Get("Content-Type") != "application/json" || exact && string(body) != tt.want || !strings.Contains(string(body), tt.want) {
				t.Errorf("%d %s: %s\nwant %d %s", status, header.Get("Content-Type"), body, tt.status, tt.want)
			}
		})
	}
}

// Every datatype goes in and comes out unchanged, as JSON, as binary and from
// one to the other.
func TestDatatypes(t *testing.T) {
	for datatype, tt := range map[string]struct{ data, raw string }{
		"BOOL":   {"[true,false,true]", "\x01\x00\x01"},
		"UINT8":  {"[0,7,255]", "\x00\x07\xff"},
		"INT8":   {"[-128,-1,127]", "\x80\xff\x7f"},
		"UINT16": {"[0,258,65535]", "\x00\x00\x02\x01\xff\xff"},
		"INT16":  {"[-32768,-1,32767]", "\x00\x80\xff\xff\xff\x7f"},
		"UINT32": {"[0,16909060,4294967295]", "\x00\x00\x00\x00\x04\x03\x02\x01\xff\xff\xff\xff"},
		"INT32":  {"[-2147483648,-1,2147483647]", "\x00\x00\x00\x80\xff\xff\xff\xff\xff\xff\xff\x7f"},
		"UINT64": {"[0,1,18446744073709551615]", "\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"},
		"INT64":  {"[-9223372036854775808,-1,9223372036854775807]", "\x00\x00\x00\x00\x00\x00\x00\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"},
		"FP32":   {"[0.1,-2.5,3.4028235e+38]", "\xcd\xcc\xcc\x3d\x00\x00\x20\xc0\xff\xff\x7f\x7f"},
		"FP64":   {"[0.1,-2.5,5e-324]", "\x9a\x99\x99\x99\x99\x99\xb9\x3f\x00\x00\x00\x00\x00\x00\x04\xc0\x01\x00\x00\x00\x00\x00\x00\x00"},
		"BYTES":  {`["","Jeans","é\"\\"]`, "\x00\x00\x00\x00\x05\x00\x00\x00Jeans\x04\x00\x00\x00é\"\\"},
		"FP16":   {"", "\x00\x3c\x00\xfc\x01\x7e"},
		"BF16":   {"", "\x80\x3f\x80\xff\xc0\x7f"},
	} {
		t.Run(datatype, func(t *testing.T) {
			url := "http://" + start(t, oip.Options{}, echo(t, datatype)) + "/v2/models/" + datatype + "/infer"
			asJSON := fmt.Sprintf(`{"inputs":[{"name":"x","shape":[1,3],"datatype":%q,"data":%s}]`, datatype, tt.data)
			asRaw := fmt.Sprintf(`{"inputs":[{"name":"x","shape":[1,3],"datatype":%q,"parameters":{"binary_data_size":%d}}]`, datatype, len(tt.raw))
			for _, in := range []string{asJSON, asRaw} {
				for _, out := range []string{`}`, `,"parameters":{"binary_data_output":true}}`, `,"outputs":[{"name":"y","parameters":{"binary_data":true}}]}`} {
					if tt.data == "" && in == asJSON {
						continue
					}
					doc, header := in+out, map[string]string{}
					body := []byte(doc)
					if in == asRaw {
						body = append(body, tt.raw...)
						header["Inference-Header-Content-Length"] = strconv.Itoa(len(doc))
					}
					status, got, answer := send(t, "POST", url, header, body)
					if tt.data == "" && out == "}" {
						if status != 422 || !bytes.Contains(answer, []byte("cannot be written as JSON; ask for it with the parameter binary_data")) {
							t.Errorf("%s: %d %s", doc, status, answer)
						}
						continue
					}
					want := fmt.Sprintf(`{"model_name":%q,"model_version":"","outputs":[{"name":"y","datatype":%[1]q,"shape":[1,3],"data":%s}]}`, datatype, tt.data)
					if out != "}" {
						want = fmt.Sprintf(`{"model_name":%q,"model_version":"","outputs":[{"name":"y","datatype":%[1]q,"shape":[1,3],"parameters":{"binary_data_size":%d}}]}`, datatype, len(tt.raw))
						if n := got.Get("Inference-Header-Content-Length"); n != strconv.Itoa(len(want)) || got.Get("Content-Type") != "application/octet-stream" {
							t.Errorf("%s: header %v", doc, got)
						}
						want += tt.raw
					}
					if status != 200 || string(answer) != want {
						t.Errorf("%s: %d %q\nwant %q", doc, status, answer, want)
					}
				}
			}
		})
	}
}

func TestBadREST(t *testing.T) {
	models := []oip.Model{sums(t)}
	for _, d := range []string{"BYTES", "BOOL", "INT8", "UINT16", "INT64", "FP16", "FP64"} {
		models = append(models, echo(t, d))
	}
	root := "http://" + start(t, oip.Options{MaxBody: 64 << 10}, models...)
	x := func(datatype, shape, data string) string {
		return fmt.Sprintf(`{"inputs":[{"name":"x","datatype":%q,"shape":%s,"data":%s}]}`, datatype, shape, data)
	}
	const y = `{"name":"y","shape":[1,2],"datatype":"FP32","data":[3,5]}`
	const ok = `{"name":"x","shape":[1,2],"datatype":"FP32","data":[3,5]},` + y
	for _, tt := range []struct {
		name, model, body string
		jsonLength        string
		status            int
		want              string
	}{
		{name: "empty", model: "sums", body: "", status: 400, want: "not JSON"},
		{name: "half a body", model: "sums", body: `{"inputs":[{"name":"x","da`, status: 400, want: "not JSON from byte"},
		{name: "half a tensor", model: "sums", body: `{"inputs":[{"name":"x","data":[1,2,`, status: 400, want: "not JSON from byte"},
		{name: "two documents", model: "sums", body: `{}{}`, status: 400, want: "not JSON from byte"},
		{name: "no object", model: "sums", body: `[]`, status: 400, want: "a list where none belongs"},
		{name: "null", model: "sums", body: `null`, status: 400, want: `input "x" is missing`},
		{name: "NaN", model: "sums", body: `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}`, status: 400, want: "NaN and infinity cannot be written in JSON"},
		{name: "name twice", model: "sums", body: `{"id":"a","id":"b"}`, status: 400, want: "duplicate"},
		{name: "id is no string", model: "sums", body: `{"id":7}`, status: 400, want: `at \"/id\" a number where none belongs`},
		{name: "shape is no list", model: "sums", body: `{"inputs":[{"shape":7}]}`, status: 400, want: `at \"/inputs/0/shape\" a number`},
		{name: "deeply nested", model: "sums", body: `{"a":` + strings.Repeat("[", 30000), status: 400, want: "exceeded max depth"},
		{name: "deeply nested data", model: "sums", body: x("FP32", "[1,2]", strings.Repeat("[", 9000)+strings.Repeat("]", 9000)), status: 400, want: "does not have the shape [1 2]"},
		{name: "not UTF-8", model: "BYTES", body: x("BYTES", "[1,1]", "[\"\xff\"]"), status: 400, want: "not JSON from byte"},

		{name: "missing input", model: "sums", body: `{"inputs":[` + y + `]}`, status: 400, want: `input "x" is missing: the model takes x FP32[-1 2], y FP32[-1 2]`},
		{name: "surplus input", model: "sums", body: `{"inputs":[` + ok + `,{"name":"z","shape":[1],"datatype":"FP32","data":[1]}]}`, status: 400, want: `input "z" is none of this model's`},
		{name: "input twice", model: "sums", body: `{"inputs":[` + ok + `,` + y + `]}`, status: 400, want: `input "y" is given twice`},
		{name: "unknown output", model: "sums", body: `{"inputs":[` + ok + `],"outputs":[{"name":"product"}]}`, status: 400, want: `output "product" is none of this model's: it gives sum FP32[-1 2]`},
		{name: "output twice", model: "sums", body: `{"inputs":[` + ok + `],"outputs":[{"name":"sum"},{"name":"sum"}]}`, status: 400, want: `output "sum" is asked for twice`},
		{name: "top classes", model: "sums", body: `{"inputs":[` + ok + `],"outputs":[{"name":"sum","parameters":{"classification":3}}]}`, status: 400, want: "classification is not supported"},
		{name: "shared memory", model: "sums", body: `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"shared_memory_region":"r"}}]}`, status: 400, want: "shared_memory_region is not supported"},
		{name: "a parameter is a list", model: "sums", body: `{"parameters":{"p":[1]},"inputs":[` + ok + `]}`, status: 400, want: `parameter "p" is a list`},
		{name: "a parameter is too large", model: "sums", body: `{"parameters":{"p":1e999},"inputs":[` + ok + `]}`, status: 400, want: `parameter "p" is 1e999`},

		{name: "wrong datatype", model: "sums", body: x("INT32", "[1,2]", "[1,2]"), status: 400, want: `input "x" is of "INT32"; the model takes FP32`},
		{name: "no datatype", model: "sums", body: x("", "[1,2]", "[1,2]"), status: 400, want: `its datatype "" is not one of the protocol's`},
		{name: "unknown datatype", model: "sums", body: x("float", "[1,2]", "[1,2]"), status: 400, want: `its datatype "float" is not one`},
		{name: "wrong rank", model: "sums", body: x("FP32", "[2]", "[1,2]"), status: 400, want: "has the shape [2]; the model takes [-1 2]"},
		{name: "wrong dimension", model: "sums", body: x("FP32", "[1,3]", "[1,2,3]"), status: 400, want: "has the shape [1 3]; the model takes [-1 2]"},
		{name: "no shape", model: "sums", body: x("FP32", "[]", "[1]"), status: 400, want: "has the shape []"},
		{name: "negative dimension", model: "sums", body: x("FP32", "[-1,2]", "[1,2]"), status: 400, want: "want dimensions from 0"},
		{name: "large dimension", model: "sums", body: x("FP32", "[4294967296,0]", "[]"), status: 400, want: "want dimensions from 0"},
		{name: "overflowing dimensions", model: "sums", body: x("FP32", "[2147483647,2147483647,2147483647]", "[1]"), status: 400, want: "fewer than 2^31 elements"},
		{name: "overflowing dimensions and none", model: "sums", body: x("FP32", "[2147483647,2147483647,0]", "[]"), status: 400, want: "fewer than 2^31 elements"},
		{name: "many dimensions", model: "sums", body: x("FP32", "["+strings.Repeat("1,", 99)+"1]", "[1]"), status: 400, want: "100 dimensions"},
		{name: "many elements promised", model: "sums", body: x("FP32", "[1000000000,2]", "[1,2]"), status: 400, want: "its data has fewer"},
		{name: "fractional dimension", model: "sums", body: x("FP32", "[1.5,2]", "[1,2,3]"), status: 400, want: "/inputs/0/shape/0"},
		{name: "too few elements", model: "sums", body: x("FP32", "[2,2]", "[1.25,2.25,3.25]"), status: 400, want: "does not have the shape [2 2]"},
		{name: "too many elements", model: "sums", body: x("FP32", "[1,2]", "[1,2,3]"), status: 400, want: "does not have the shape [1 2]"},
		{name: "nested the other way", model: "sums", body: x("FP32", "[3,2]", "[[1,2,3],[4,5,6]]"), status: 400, want: "does not have the shape [3 2]"},
		{name: "ragged", model: "sums", body: x("FP32", "[2,2]", "[[1,2],[3]]"), status: 400, want: "does not have the shape [2 2]"},
		{name: "half nested", model: "sums", body: x("FP32", "[2,2]", "[[1,2],3,4]"), status: 400, want: "does not have the shape [2 2]"},
		{name: "an object", model: "sums", body: x("FP32", "[1,2]", `[{"a":1},2]`), status: 400, want: "its element 0"},
		{name: "data is no list", model: "sums", body: x("FP32", "[1,2]", "1"), status: 400, want: "input \"x\": "},
		{name: "no data", model: "sums", body: `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32"}]}`, status: 400, want: "has no data"},
		{name: "out of range", model: "sums", body: x("FP32", "[1,2]", "[1e39,0]"), status: 400, want: "its element 0 is 1e39: value out of range"},
		{name: "out of FP64's range", model: "FP64", body: x("FP64", "[1,1]", "[1e999]"), status: 400, want: "value out of range"},
		{name: "a string for a number", model: "sums", body: x("FP32", "[1,2]", `["1",2]`), status: 400, want: `its element 0 is "1": invalid syntax`},
		{name: "null for a number", model: "sums", body: x("FP32", "[1,2]", `[null,2]`), status: 400, want: `its element 0 is null: invalid syntax`},
		{name: "too large for INT8", model: "INT8", body: x("INT8", "[1,1]", "[128]"), status: 400, want: "its element 0 is 128: value out of range"},
		{name: "below UINT16", model: "UINT16", body: x("UINT16", "[1,1]", "[-1]"), status: 400, want: "its element 0 is -1"},
		{name: "a fraction for INT64", model: "INT64", body: x("INT64", "[1,1]", "[1.5]"), status: 400, want: "its element 0 is 1.5"},
		{name: "a number for BOOL", model: "BOOL", body: x("BOOL", "[1,1]", "[1]"), status: 400, want: "want true or false"},
		{name: "a number for BYTES", model: "BYTES", body: x("BYTES", "[1,1]", "[1]"), status: 400, want: "want a string"},
		{name: "FP16 as JSON", model: "FP16", body: x("FP16", "[1,1]", "[1]"), status: 400, want: "send it in the binary extension"},

		{name: "too large", model: "sums", body: x("FP32", "[1,2]", "["+strings.Repeat(" ", 64<<10)+"1,2]"), status: 413, want: "larger than 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkBad(t, root+"/v2/models/"+tt.model+"/infer", nil, tt.body, tt.status, tt.want)
		})
	}

	b := func(datatype, shape, size string) string {
		return fmt.Sprintf(`{"inputs":[{"name":"x","datatype":%q,"shape":%s,"parameters":{"binary_data_size":%s}}]}`, datatype, shape, size)
	}
	for _, tt := range []struct{ name, model, json, raw, length, want string }{
		{"no such length", "sums", b("FP32", "[1,2]", "8"), "12345678", "many", `Inference-Header-Content-Length is "many"`},
		{"length beyond the body", "sums", b("FP32", "[1,2]", "8"), "12345678", "4000", "is \"4000\"; want"},
		{"negative length", "sums", b("FP32", "[1,2]", "8"), "12345678", "-1", "is \"-1\"; want"},
		{"length amid the JSON", "sums", b("FP32", "[1,2]", "8"), "12345678", "20", "not JSON"},
		{"no length", "sums", b("FP32", "[1,2]", "8"), "12345678", "none", "not JSON"},
		{"size beyond the body", "sums", b("FP32", "[1,2]", "16"), "12345678", "", "says binary_data_size 16; 8 bytes are left"},
		{"negative size", "sums", b("FP32", "[1,2]", "-8"), "12345678", "", "says binary_data_size -8"},
		{"huge size", "sums", b("FP32", "[1,2]", "18446744073709551615"), "12345678", "", "says binary_data_size 18446744073709551615"},
		{"fractional size", "sums", b("FP32", "[1,2]", "7.5"), "12345678", "", "says binary_data_size 7.5"},
		{"size against shape", "sums", b("FP32", "[1,2]", "7"), "1234567", "", "its shape [1 2] of FP32 wants 8 bytes; there are 7"},
		{"bytes left", "sums", b("FP32", "[1,2]", "8"), "123456789", "", "1 bytes are left behind"},
		{"data and size", "sums", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[1],"parameters":{"binary_data_size":4}}]}`, "1234", "", "both data and binary_data_size"},
		{"a BOOL of 2", "BOOL", b("BOOL", "[1,1]", "1"), "\x02", "", "a BOOL is 0 or 1"},
		{"a string's length lies", "BYTES", b("BYTES", "[1,1]", "6"), "\x05\x00\x00\x00ab", "", "its element 0 says that it has 5 bytes; 2 are left"},
		{"a string's length is huge", "BYTES", b("BYTES", "[1,1]", "6"), "\xff\xff\xff\xffab", "", "its element 0 says that it has 4294967295 bytes"},
		{"too few strings", "BYTES", b("BYTES", "[1,2]", "9"), "\x05\x00\x00\x00abcde", "", "its data ends before element 1 of 2"},
		{"too many strings", "BYTES", b("BYTES", "[1,1]", "8"), "\x00\x00\x00\x00\x00\x00\x00\x00", "", "4 bytes are left behind its 1 elements"},
		{"many strings promised", "BYTES", b("BYTES", "[1000000000,1]", "4"), "\x00\x00\x00\x00", "", "1000000000 BYTES elements want 4 bytes of length each"},
	} {
		t.Run("binary, "+tt.name, func(t *testing.T) {
			header := map[string]string{}
			switch tt.length {
			case "":
				header["Inference-Header-Content-Length"] = strconv.Itoa(len(tt.json))
			case "none":
			default:
				header["Inference-Header-Content-Length"] = tt.length
			}
			checkBad(t, root+"/v2/models/"+tt.model+"/infer", header, tt.json+tt.raw, 400, tt.want)
		})
	}
}

func checkBad(t *testing.T, url string, header map[string]string, body string, status int, want string) {
	t.Helper()
	got, _, answer := send(t, "POST", url, header, []byte(body))
	var e map[string]string
	if err := json.Unmarshal(answer, &e); err != nil || len(e) != 1 {
		t.Fatalf("%d %s: not the protocol's error: %v", got, answer, err)
	}
	// As it is read in JSON, where quotes are escaped.
	if got != status || !strings.Contains(e["error"], want) && !strings.Contains(string(answer), want) {
		t.Errorf("%d %s\nwant %d with %s", got, answer, status, want)
	}
}

// What is not finite comes in by the binary extension, and goes out by it; as
// JSON it is refused.
func TestNotFinite(t *testing.T) {
	url := "http://" + start(t, oip.Options{}, echo(t, "FP32"), echo(t, "FP64")) + "/v2/models/"
	for datatype, raw := range map[string]string{"FP32": "\x00\x00\xc0\x7f\x00\x00\x80\xff", "FP64": "\x01\x00\x00\x00\x00\x00\xf8\x7f\x00\x00\x00\x00\x00\x00\xf0\x7f"} {
		for out, want := range map[string]int{`}`: 422, `,"parameters":{"binary_data_output":true}}`: 200} {
			doc := fmt.Sprintf(`{"inputs":[{"name":"x","shape":[1,2],"datatype":%q,"parameters":{"binary_data_size":%d}}]`, datatype, len(raw)) + out
			status, _, body := send(t, "POST", url+datatype+"/infer", map[string]string{"Inference-Header-Content-Length": strconv.Itoa(len(doc))}, []byte(doc+raw))
			if status != want || want == 200 && !bytes.HasSuffix(body, []byte(raw)) || want == 422 && !bytes.Contains(body, []byte("its element 0 is NaN, which JSON cannot write")) {
				t.Errorf("%s: %d %q", doc, status, body)
			}
		}
	}
}

// A model's refusals keep their status; its other errors are told to the log.
func TestModelErrors(t *testing.T) {
	m := sums(t)
	var err error
	var got oip.Request
	m.infer = func(r oip.Request) error { got = r; return err }
	type answer struct {
		Route  string
		Status int
	}
	answered := make(chan answer, 1)
	url := "http://" + start(t, oip.Options{Answered: func(route string, status int, _ time.Duration) { answered <- answer{route, status} }}, m) + "/v2/models/sums/infer"
	const body = `{"parameters":{"top":3,"half":0.5,"name":"n","on":true,"most":18446744073709551615},"outputs":[{"name":"difference"},{"name":"sum"}],"inputs":[
		{"name":"y","shape":[1,2],"datatype":"FP32","data":[3,5]},{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}`
	for _, tt := range []struct {
		err    error
		status int
		body   string
		retry  string
	}{
		{nil, 200, `[{"name":"difference","datatype":"FP32","shape":[1,2],"data":[-2,-3]},{"name":"sum","datatype":"FP32","shape":[1,2],"data":[4,7]}]`, ""},
		{&problem.Error{Status: 503, Detail: "full", RetryAfter: time.Second}, 503, `{"error":"full"}`, "1"},
		{fmt.Errorf("a secret"), 500, `{"error":"internal error; the service's log says more"}`, ""},
	} {
		err = tt.err
		status, header, b := send(t, "POST", url, nil, []byte(body))
		if status != tt.status || !strings.Contains(string(b), tt.body) || header.Get("Retry-After") != tt.retry {
			t.Errorf("%v: %d %v %s", tt.err, status, header, b)
		}
		if a := <-answered; a != (answer{"v2/models/infer", tt.status}) {
			t.Errorf("told of %+v", a)
		}
	}
	want := oip.Request{
		Inputs:     []onnx.Tensor{{Datatype: "FP32", Shape: []int64{1, 2}, F32: []float32{1, 2}}, {Datatype: "FP32", Shape: []int64{1, 2}, F32: []float32{3, 5}}},
		Outputs:    []int{1, 0},
		Parameters: map[string]any{"top": int64(3), "half": 0.5, "name": "n", "on": true, "most": uint64(math.MaxUint64)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	m.infer = func(oip.Request) error { panic("a bug") }
	if status, _, b := send(t, "POST", url, nil, []byte(body)); status != 500 || strings.Contains(string(b), "a bug") {
		t.Errorf("a panic: %d %s", status, b)
	}
	<-answered
}

// What is full refuses before it reads a body.
func TestAdmit(t *testing.T) {
	full := false
	var inside int
	url := "http://" + start(t, oip.Options{Admit: func() (func(), error) {
		if full {
			return nil, &problem.Error{Status: 503, Detail: "full", RetryAfter: time.Second}
		}
		inside++
		return func() { inside-- }, nil
	}}, sums(t)) + "/v2/models/sums/infer"
	if status, _, _ := send(t, "POST", url, nil, []byte("{}")); status != 400 || inside != 0 {
		t.Errorf("%d; %d inside", status, inside)
	}
	full = true
	if status, header, b := send(t, "POST", url, nil, []byte("{}")); status != 503 || string(b) != `{"error":"full"}` || header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", status, b)
	}
}

// Triton's HTTP client compresses requests on demand.
func TestCompressedREST(t *testing.T) {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	doc := `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"y","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}`
	_, _ = zw.Write([]byte(doc + "\x00\x00\x80\x3f\x00\x00\x80\x3f"))
	_ = zw.Close()
	url := "http://" + start(t, oip.Options{}, sums(t)) + "/v2/models/sums/infer"
	header := map[string]string{"Content-Encoding": "gzip", "Inference-Header-Content-Length": strconv.Itoa(len(doc))}
	if status, _, body := send(t, "POST", url, header, b.Bytes()); status != 200 || !bytes.Contains(body, []byte(`"data":[2,3]`)) {
		t.Errorf("%d %s", status, body)
	}
}

// A request ends with its parameter timeout, and says so.
func TestTimeoutParameter(t *testing.T) {
	m := sums(t)
	m.wait = func(ctx context.Context) { <-ctx.Done() }
	url := "http://" + start(t, oip.Options{}, m) + "/v2/models/sums/infer"
	checkBad(t, url, nil, `{"parameters":{"timeout":1000},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"y","shape":[1,2],"datatype":"FP32","data":[1,2]}]}`,
		504, "the deadline passed")
}
