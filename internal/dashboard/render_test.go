package dashboard

import (
	"bytes"
	"strings"
	"testing"
)

func newTestRenderer(t *testing.T) *renderer {
	t.Helper()
	r, err := newRenderer()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pageOf(t *testing.T, v *View) string {
	t.Helper()
	var b bytes.Buffer
	if err := newTestRenderer(t).page(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What the page shows first and what is sent to it later cannot differ.
func TestPageHoldsTheVerySections(t *testing.T) {
	for name, v := range fixtures() {
		t.Run(name, func(t *testing.T) {
			page := pageOf(t, v)
			sections, err := newTestRenderer(t).sections(v)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range sections {
				if !strings.Contains(page, s.HTML) {
					t.Errorf("section %s is not in the page as it is sent later:\n%s", s.ID, s.HTML)
				}
				if !strings.Contains(s.HTML, ` id="`+s.ID+`"`) {
					t.Errorf("section %s has another id:\n%s", s.ID, s.HTML)
				}
			}
		})
	}
}
