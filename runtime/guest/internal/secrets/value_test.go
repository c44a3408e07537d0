package secrets

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"unicode"

	"tdxvm/guest/internal/config"
)

// rulesFor makes rules of schemas that share one file target.
func ruleFor(t testing.TB, schema config.SecretSchema, targets ...config.SecretTarget) *rule {
	t.Helper()
	if schema.MaxLength == 0 {
		schema.MaxLength = 4096
	}
	rules, err := compile([]config.Secret{{Name: "it", Schema: schema, Targets: targets}})
	if err != nil {
		t.Fatal(err)
	}
	return &rules[0]
}

const testPEM = "-----BEGIN THING-----\nAAAA\n-----END THING-----\n"

// TestLongVariables holds the limit against the kernel: it starts a program with the longest, and with no longer one.
func TestLongVariables(t *testing.T) {
	variable := config.SecretTarget{Type: config.TargetEnv, Variable: "IT", Scope: config.ScopeGlobal}
	file := config.SecretTarget{Type: config.TargetFile}
	for length, takes := range map[int]bool{longestVariable - 4: true, longestVariable - 3: false} {
		text := strings.Repeat("é", length/2) + strings.Repeat("a", length%2)
		raw := json.RawMessage(quoted(text))
		if _, faults := ruleFor(t, config.SecretSchema{Kind: "string", MaxLength: 1 << 20}, variable).fromJSON(raw); (len(faults) == 0) != takes || !takes && faults[0].Rule != "environment" {
			t.Errorf("%d bytes: %v", length, faults)
		}
		if _, faults := ruleFor(t, config.SecretSchema{Kind: "string", MaxLength: 1 << 20}, file).fromJSON(raw); len(faults) != 0 {
			t.Errorf("%d bytes in a file: %v", length, faults)
		}
		command := exec.Command("/bin/true")
		command.Env = []string{"IT=" + text}
		if err := command.Run(); (err == nil) != takes {
			t.Errorf("the kernel and %d bytes: %v", length, err)
		}
	}
}

func TestValues(t *testing.T) {
	variable := config.SecretTarget{Type: config.TargetEnv, Variable: "IT", Scope: config.ScopeGlobal}
	cases := []struct {
		name   string
		schema config.SecretSchema
		target config.SecretTarget
		raw    string
		want   string // the delivered bytes
		rules  string // or what is broken
	}{
		{"text", config.SecretSchema{Kind: "string"}, variable, `"tok_é\n"`, "tok_é\n", ""},
		{"pair of surrogates", config.SecretSchema{Kind: "string"}, variable, `"\ud83d\ude00"`, "😀", ""},
		{"number for text", config.SecretSchema{Kind: "string"}, variable, `1`, "", "kind"},
		{"null for text", config.SecretSchema{Kind: "string"}, variable, `null`, "", "kind"},
		{"length in characters", config.SecretSchema{Kind: "string", MinLength: 3, MaxLength: 3}, variable, `"ééé"`, "ééé", ""},
		{"too short", config.SecretSchema{Kind: "string", MinLength: 4}, variable, `"ééé"`, "", "min_length"},
		{"too long", config.SecretSchema{Kind: "string", MaxLength: 2}, variable, `"ééé"`, "", "max_length"},
		{"pattern", config.SecretSchema{Kind: "string", Pattern: "^tok_"}, variable, `"tok_1"`, "tok_1", ""},
		{"pattern within", config.SecretSchema{Kind: "string", Pattern: "b+"}, variable, `"abba"`, "abba", ""},
		{"not the pattern", config.SecretSchema{Kind: "string", Pattern: "^tok_"}, variable, `"TOK_1"`, "", "pattern"},
		{"end of the pattern", config.SecretSchema{Kind: "string", Pattern: "a$"}, variable, `"a\n"`, "", "pattern"},
		{"enum", config.SecretSchema{Kind: "string", Enum: []string{"a", "b"}}, variable, `"b"`, "b", ""},
		{"not in the enum", config.SecretSchema{Kind: "string", Enum: []string{"a", "b"}}, variable, `"c"`, "", "enum"},
		{"all that is wrong", config.SecretSchema{Kind: "string", MinLength: 5, Pattern: "x", Enum: []string{"a"}}, variable, `"\u0007"`, "", "min_length pattern enum environment"},
		{"control character for a file", config.SecretSchema{Kind: "string"}, config.SecretTarget{Type: "file"}, `"\u0007\u0000"`, "\a\x00", ""},
		{"noncharacter", config.SecretSchema{Kind: "string"}, variable, `"a\ufdd0"`, "", "environment"},
		{"noncharacter of a plane", config.SecretSchema{Kind: "string"}, variable, `"\ud83f\udffe"`, "", "environment"},
		{"noncharacter in JSON", config.SecretSchema{Kind: "json"}, variable, quoted("\uffff"), "", "environment"},
		{"noncharacter for a file", config.SecretSchema{Kind: "string"}, config.SecretTarget{Type: "file"}, `"\ufdef"`, "\ufdef", ""},
		{"byte order mark", config.SecretSchema{Kind: "string"}, variable, `"\ufeff"`, "\ufeff", ""},
		{"integer", config.SecretSchema{Kind: "int"}, variable, `-12`, "-12", ""},
		{"zero", config.SecretSchema{Kind: "int"}, variable, `0`, "0", ""},
		{"minus zero", config.SecretSchema{Kind: "int"}, variable, `-0`, "", "kind"},
		{"text for an integer", config.SecretSchema{Kind: "int"}, variable, `"1"`, "", "kind"},
		{"fraction", config.SecretSchema{Kind: "int"}, variable, `1.0`, "", "kind"},
		{"exponent", config.SecretSchema{Kind: "int"}, variable, `1e3`, "", "kind"},
		{"too large", config.SecretSchema{Kind: "int"}, variable, `9223372036854775808`, "", "kind"},
		{"integer of the enum", config.SecretSchema{Kind: "int", Enum: []string{"80"}}, variable, `80`, "80", ""},
		{"json", config.SecretSchema{Kind: "json"}, variable, `{ "b": [1, 1e3], "a": "<" }`, `{"b":[1,1e3],"a":"<"}`, ""},
		{"long json", config.SecretSchema{Kind: "json", MaxLength: 2}, variable, `[1]`, "", "max_length"},
		{"pem", config.SecretSchema{Kind: "pem"}, variable, quoted(testPEM), testPEM, ""},
		{"two of pem", config.SecretSchema{Kind: "pem"}, variable, quoted(testPEM + "\n" + testPEM), testPEM + "\n" + testPEM, ""},
		{"no pem", config.SecretSchema{Kind: "pem"}, variable, `"AAAA"`, "", "kind"},
		{"empty for pem", config.SecretSchema{Kind: "pem"}, variable, `""`, "", "kind"},
		{"text before pem", config.SecretSchema{Kind: "pem"}, variable, quoted("x\n" + testPEM), "", "kind"},
		{"text behind pem", config.SecretSchema{Kind: "pem"}, variable, quoted(testPEM + "x"), "", "kind"},
		{"text between pem", config.SecretSchema{Kind: "pem"}, variable, quoted(testPEM + "x\n" + testPEM), "", "kind"},
		{"broken pem before a whole one", config.SecretSchema{Kind: "pem"}, variable, quoted("-----BEGIN THING-----\n" + testPEM), "", "kind"},
		{"base64", config.SecretSchema{Kind: "base64", MaxLength: 3}, config.SecretTarget{Type: "file"}, `"AP8B"`, "\x00\xff\x01", ""},
		{"decoded length", config.SecretSchema{Kind: "base64", MinLength: 4}, config.SecretTarget{Type: "file"}, `"AP8B"`, "", "min_length"},
		{"url alphabet", config.SecretSchema{Kind: "base64"}, config.SecretTarget{Type: "file"}, `"_-8B"`, "", "kind"},
		{"no padding", config.SecretSchema{Kind: "base64"}, config.SecretTarget{Type: "file"}, `"AA"`, "", "kind"},
		{"bits behind the end", config.SecretSchema{Kind: "base64"}, config.SecretTarget{Type: "file"}, `"AB=="`, "", "kind"},
		{"line break", config.SecretSchema{Kind: "base64"}, config.SecretTarget{Type: "file"}, `"AP8B\n"`, "", "kind"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			value, faults := ruleFor(t, c.schema, c.target).fromJSON(json.RawMessage(c.raw))
			var broken []string
			for _, each := range faults {
				broken = append(broken, each.Rule)
			}
			if got := strings.Join(broken, " "); got != c.rules {
				t.Errorf("broken: %q, want %q", got, c.rules)
			}
			if string(value) != c.want {
				t.Errorf("delivered %q, want %q", []byte(value), c.want)
			}
		})
	}
}

// TestCodePointsOfVariables holds the refused code points against what systemd takes.
func TestCodePointsOfVariables(t *testing.T) {
	refused := func(char rune) bool {
		plane, low := char>>16, char&0xFFFF
		return plane <= 16 && low >= 0xFFFE || char >= 0xFDD0 && char < 0xFDF0 || char < ' ' && char != '\t' && char != '\n' || char == 0x7f
	}
	count := 0
	for char := rune(0); char <= unicode.MaxRune; char++ {
		if char >= 0xD800 && char < 0xE000 { // halves of surrogate pairs, which the body cannot hold
			continue
		}
		if got := fitsVariable(Value("a" + string(char) + "b")); got == refused(char) {
			t.Fatalf("U+%04X: taken: %v", char, got)
		}
		if refused(char) {
			count++
		}
	}
	if want := 66 + 31; count != want {
		t.Errorf("%d code points are refused, want %d", count, want)
	}
}

func quoted(text string) string {
	data, _ := json.Marshal(text)
	return string(data)
}

func TestFaultsDoNotEchoTheValue(t *testing.T) {
	const value = "Sup3rS3cret"
	for _, schema := range []config.SecretSchema{
		{Kind: "string", MaxLength: 2, Pattern: "x", Enum: []string{"y"}}, {Kind: "int"}, {Kind: "pem"}, {Kind: "base64"}, {Kind: "json", MaxLength: 1},
	} {
		_, faults := ruleFor(t, schema).fromJSON(json.RawMessage(quoted(value)))
		if len(faults) == 0 || strings.Contains(fmt.Sprint(faults), value) {
			t.Errorf("%s: %v", schema.Kind, faults)
		}
	}
}

func TestValuesDoNotPrint(t *testing.T) {
	value := Value("Sup3rS3cret")
	for _, verb := range []string{"%v", "%s", "%q", "%x", "%d", "%#v", "%+v"} {
		if got := fmt.Sprintf(verb, value); got != hidden {
			t.Errorf("%s prints %q", verb, got)
		}
		if got := fmt.Sprintf(verb, struct{ V Value }{value}); strings.Contains(got, "Sup3r") || strings.Contains(got, fmt.Sprintf("%x", "Sup3r")) {
			t.Errorf("%s of a struct prints %q", verb, got)
		}
	}
}

func TestBodies(t *testing.T) {
	entries, err := parseBody([]byte(` {"secrets": {"b": 1, "a": {"x": [ "\\ud800" ]}} } `))
	if err != nil || len(entries) != 2 || entries[0].name != "b" || string(entries[1].raw) != `{"x": [ "\\ud800" ]}` {
		t.Fatalf("%v %v", entries, err)
	}
	deep := strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)
	refused := map[string]string{
		"":                                      "is not JSON",
		"{":                                     "is not JSON",
		`{"secrets":{"a":tok}}`:                 "is not JSON (from byte",
		"{\"secrets\":{\"a\":\"\xff\"}}":        "is not UTF-8",
		`[]`:                                    `must be one object with the only name "secrets"`,
		`null`:                                  `must be one object`,
		`{"secrets":{"a":1},"more":1}`:          `must be one object`,
		`{"Secrets":{"a":1}}`:                   `must be one object`,
		`{"secrets":[1]}`:                       `"secrets" must be an object`,
		`{"secrets":null}`:                      `must be`,
		`{"secrets":{}}`:                        "holds 0 secrets",
		`{"secrets":{"a":1}} x`:                 "is not JSON",
		`{"secrets":{"a":1}}{}`:                 "is not JSON",
		`{"secrets":{"a":1,"a":2}}`:             "there twice",
		`{"secrets":{"a":1,"\u0061":2}}`:        "there twice",
		`{"secrets":{"a":{"x":1,"x":2}}}`:       "there twice",
		`{"secrets":{"a":1},"secrets":{"a":2}}`: "there twice",
		`{"secrets":{"a":"\ud800"}}`:            "half of a surrogate pair (byte 17)",
		`{"secrets":{"a":"\udc00\ud800"}}`:      "half of a surrogate pair",
		`{"secrets":{"a":"\ud800\u0041"}}`:      "half of a surrogate pair",
		`{"secrets":{"a":"\\\ud800"}}`:          "half of a surrogate pair",
		`{"secrets":{"a":` + deep + `}}`:        "nests deeper",
		`{"secrets":{` + manyNames(maxEntries+1) + `}}`: "holds 257 secrets",
	}
	for body, want := range refused {
		_, err := parseBody([]byte(body))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", body, err, want)
		}
	}
}

func manyNames(count int) string {
	var parts []string
	for index := range count {
		parts = append(parts, fmt.Sprintf(`"n%d":1`, index))
	}
	return strings.Join(parts, ",")
}

func TestEnvironmentLines(t *testing.T) {
	got := environmentLine("A", "a b\"c\\d$e`f\ng'h#")
	if want := "A=\"a b\\\"c\\\\d\\$e\\`f\ng'h#\"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
