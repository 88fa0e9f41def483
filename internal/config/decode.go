package config

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/shlex"
	"go.yaml.in/yaml/v3"
)

// input is a value as it was given: a node of the file, with aliases resolved and variables expanded, or the text of a
// variable or a flag.
type input struct {
	origin  Origin
	node    *yaml.Node // nil for a text
	text    string
	seconds bool // a plain number, or a duration, of a variable named …_SECONDS
}

// problem is what is wrong with one input, or with one line of it.
type problem struct {
	line  int // 0: the input's own
	text  string
	whole bool // the text is complete: the input is not shown in front of it
}

// scalar is the input as one text.
func (in input) scalar() (string, bool) {
	if in.node == nil {
		return in.text, true
	}
	return in.node.Value, in.node.Kind == yaml.ScalarNode
}

// decode stores the input where place points to, or returns what is wrong.
func (in input) decode(place any) []problem {
	switch p := place.(type) {
	case *map[string]int:
		return in.decodeQueues(p)
	case *map[string]string:
		return in.decodeEnv(p)
	case *[]string:
		return in.decodeCommand(p)
	}
	text, ok := in.scalar()
	if !ok {
		return []problem{{text: "is a list or a map; a single value belongs here", whole: true}}
	}
	var err error
	switch p := place.(type) {
	case *string:
		*p = text
	case *bool:
		*p, err = parseBool(text)
	case *int:
		*p, err = parseInt(text)
	case *size:
		*p, err = parseSize(text)
	case *time.Duration:
		*p, err = parseDuration(text, in.seconds)
	default:
		err = fmt.Errorf("has a place of type %T, which cannot be decoded", place)
	}
	if err != nil {
		return []problem{{text: err.Error()}}
	}
	return nil
}

// decodeQueues reads {name: weight}, [name, name], or "name:weight,name".
func (in input) decodeQueues(p *map[string]int) (problems []problem) {
	queues := make(map[string]int)
	add := func(line int, name, weight string) {
		n := 1
		if weight != "" {
			var err error
			if n, err = strconv.Atoi(strings.TrimSpace(weight)); err != nil {
				problems = append(problems, problem{line: line, whole: true,
					text: fmt.Sprintf("weight %s of queue %s is not a whole number", quote(weight), quote(name))})
				return
			}
		}
		_, twice := queues[name]
		queues[name] = n
		var text string
		if err := CheckQueueName(name); err != nil {
			text = err.Error()
		} else if text = checkWeight(name, n); text == "" && twice {
			text = fmt.Sprintf("queue %s is named twice", name)
		}
		if text != "" {
			problems = append(problems, problem{line: line, text: text, whole: true})
		}
	}
	switch text, scalar := in.scalar(); {
	case scalar:
		for part := range strings.SplitSeq(text, ",") {
			name, weight, found := strings.Cut(strings.TrimSpace(part), ":")
			if found && weight == "" {
				weight = " "
			}
			add(0, strings.TrimSpace(name), weight)
		}
	case in.node.Kind == yaml.SequenceNode:
		for _, item := range in.node.Content {
			if item.Kind != yaml.ScalarNode {
				problems = append(problems, problem{line: item.Line, whole: true, text: "an entry is not a name: write {name: weight} or a list of names"})
				continue
			}
			add(item.Line, item.Value, "")
		}
	default:
		for i := 0; i+1 < len(in.node.Content); i += 2 {
			name, weight := in.node.Content[i], in.node.Content[i+1]
			if weight.Kind != yaml.ScalarNode || weight.Value == "" {
				problems = append(problems, problem{line: name.Line, whole: true, text: fmt.Sprintf("queue %s has no weight: write %s: 1", quote(name.Value), name.Value)})
				continue
			}
			add(name.Line, name.Value, weight.Value)
		}
	}
	*p = queues
	return problems
}

// decodeEnv reads {NAME: value}, a JSON object, or "NAME=value,NAME=value". No problem shows a value.
func (in input) decodeEnv(p *map[string]string) (problems []problem) {
	env := make(map[string]string)
	text, scalar := in.scalar()
	switch trimmed := strings.TrimSpace(text); {
	case scalar && strings.HasPrefix(trimmed, "{"):
		var values map[string]any
		decoder := json.NewDecoder(strings.NewReader(trimmed))
		decoder.UseNumber()
		if err := decoder.Decode(&values); err != nil || decoder.More() {
			return []problem{{whole: true, text: `is not a JSON object: write {"NAME":"value"}`}}
		}
		for name, value := range values {
			switch v := value.(type) {
			case string:
				env[name] = v
			case bool, json.Number:
				env[name] = fmt.Sprint(v)
			default:
				problems = append(problems, problem{whole: true, text: fmt.Sprintf("the value of %s is not a string, a number or a boolean", quote(name))})
			}
		}
	case scalar:
		for part := range strings.SplitSeq(text, ",") {
			if strings.TrimSpace(part) == "" {
				continue
			}
			name, value, ok := strings.Cut(part, "=")
			if !ok {
				return []problem{{whole: true, text: `is not NAME=value,NAME=value; a value with commas needs JSON: {"NAME":"value"}`}}
			}
			env[strings.TrimSpace(name)] = value
		}
	case in.node.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(in.node.Content); i += 2 {
			name, value := in.node.Content[i], in.node.Content[i+1]
			if value.Kind != yaml.ScalarNode {
				problems = append(problems, problem{line: value.Line, whole: true, text: fmt.Sprintf("the value of %s is not a string, a number or a boolean", quote(name.Value))})
				continue
			}
			if _, twice := env[name.Value]; twice {
				problems = append(problems, problem{line: name.Line, whole: true, text: fmt.Sprintf("variable %s is set twice", quote(name.Value))})
			}
			env[name.Value] = value.Value
		}
	default:
		return []problem{{whole: true, text: "is a list; a map belongs here: write {NAME: value}"}}
	}
	*p = env
	return problems
}

// decodeCommand reads a list of words, or a text that is split as a shell splits words (a text that begins with [ is a
// JSON list).
func (in input) decodeCommand(p *[]string) []problem {
	text, scalar := in.scalar()
	switch {
	case scalar && strings.HasPrefix(strings.TrimSpace(text), "["):
		var words []string
		if err := json.Unmarshal([]byte(text), &words); err != nil {
			return []problem{{text: `is not a JSON list of strings: write ["python3","main.py"]`}}
		}
		*p = words
	case scalar:
		words, err := shlex.Split(text)
		if err != nil {
			return []problem{{text: "cannot be split into words: " + err.Error()}}
		}
		*p = words
	case in.node.Kind == yaml.SequenceNode:
		words := make([]string, 0, len(in.node.Content))
		for _, item := range in.node.Content {
			if item.Kind != yaml.ScalarNode {
				return []problem{{line: item.Line, whole: true, text: "an entry is not a word: write [python3, main.py]"}}
			}
			words = append(words, item.Value)
		}
		*p = words
	default:
		return []problem{{whole: true, text: "is a map; a list of words belongs here: write [python3, main.py]"}}
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("is neither true nor false")
}

func parseInt(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("is not a whole number: write digits, like 4")
	}
	return n, nil
}

func parseDuration(text string, seconds bool) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseFloat(text, 64); err == nil && n != 0 && !math.IsNaN(n) {
		if !seconds {
			return 0, fmt.Errorf("has no unit: write %ss for seconds", text)
		}
		if math.Abs(n) > float64(math.MaxInt64/int64(time.Second)) {
			return 0, fmt.Errorf("is too long")
		}
		return time.Duration(n * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("is not a duration: write 500ms, 30s, 5m or 24h")
	}
	return d, nil
}

// units of parseSize, in lower case, without a trailing b.
var units = map[string]float64{
	"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12,
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40,
}

// parseSize reads 67108864, 64MiB, 512k (kilo is 1000, kibi 1024), 1.5GB.
func parseSize(text string) (size, error) {
	text = strings.TrimSpace(text)
	end := strings.LastIndexFunc(text, func(r rune) bool { return strings.ContainsRune("0123456789.", r) }) + 1
	unit := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(text[end:])), "b")
	factor, known := units[unit]
	n, err := strconv.ParseFloat(strings.TrimSpace(text[:end]), 64)
	if err != nil || !known || n < 0 || math.IsNaN(n) {
		return 0, fmt.Errorf("is not a size: write 64MiB, 2GB, 512k or a number of bytes")
	}
	if n *= factor; n >= math.MaxInt64 {
		return 0, fmt.Errorf("is too large")
	}
	return size(math.Round(n)), nil
}

// showDuration is 1m where time.Duration prints 1m0s.
func showDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// showSize is the largest binary unit that divides n.
func showSize(n int64) string {
	names := []string{"", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n != 0 && n%1024 == 0 && i+1 < len(names) {
		n /= 1024
		i++
	}
	return strconv.FormatInt(n, 10) + names[i]
}

// QueueNames returns the names of the queues by falling weight, equal weights in alphabetical order.
func (w Worker) QueueNames() []string {
	names := make([]string, 0, len(w.Queues))
	for name := range w.Queues {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := w.Queues[b] - w.Queues[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}
