package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

type sample struct {
	Name  string   `json:"name"`
	Items []sample `json:"items,omitempty"`
}

func TestDecode(t *testing.T) {
	limits := Limits{Bytes: 200, Depth: 4}
	cases := []struct{ name, text, want string }{
		{"plain", `{"name":"a","items":[{"name":"b"}]}`, ""},
		{"unknown", `{"nam":"a"}`, `unknown field "nam"`},
		{"twice", `{"name":"a","name":"b"}`, `"name" is there twice`},
		{"twice, one escaped", `{"name":"a","n\u0061me":"b"}`, `"name" is there twice`},
		{"upper case", `{"NAME":"a"}`, `"NAME" is unknown`},
		{"empty key", `{"":"a"}`, `"" is unknown`},
		{"text behind", `{"name":"a"} x`, "more text behind"},
		{"value behind", `{"name":"a"} 1`, "more text behind"},
		{"nothing", ``, "unexpected EOF"},
		{"cut", `{"name":"a"`, "unexpected EOF"},
		{"cut in an array", `{"items":[{}`, "unexpected EOF"},
		{"deep", `[[[[[1]]]]]`, "nested deeper than the 4 levels"},
		{"long", `"` + strings.Repeat("x", 200) + `"`, "more than the 200"},
		{"not UTF-8", "{\"name\":\"\xff\"}", "not UTF-8"},
		{"another type", "{\n \"name\": 1}", `line 2`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got sample
			err := Decode([]byte(c.text), limits, &got)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"a","items":[{"name":"b"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got any
		if Decode(data, Limits{Bytes: 4096, Depth: 8}, &got) == nil && !json.Valid(data) {
			t.Errorf("took what is no JSON: %q", data)
		}
	})
}
