package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves what g gathers, as Prometheus text, OpenMetrics (with exemplars) or protobuf (with native histograms),
// whichever the scraper asks for, compressed when it accepts that. g must be the gatherer behind the registerer that
// [New] got.
//
// When a part cannot be gathered the rest is served and the fault is logged. Every scrape reads anew: promhttp could
// let scrapes that overlap share one reading, but one client that is slow to take its answer would then hold everyone
// else to the same old figures. The server that this handler is mounted on bounds how long such a client may take.
func Handler(g prometheus.Gatherer, logger *slog.Logger) http.Handler {
	return newCompressor(promhttp.HandlerFor(g, promhttp.HandlerOpts{
		EnableOpenMetrics:  true,
		ErrorHandling:      promhttp.ContinueOnError,
		ErrorLog:           errorLog{logger},
		DisableCompression: true,
	}))
}

type errorLog struct{ logger *slog.Logger }

// Println implements promhttp.Logger.
func (l errorLog) Println(v ...any) {
	l.logger.Warn("metrics scrape incomplete", "error", strings.TrimSpace(fmt.Sprintln(v...)))
}

// label makes s fit for a label value: strings that come from the child or the environment must not be able to spoil a
// scrape.
func label(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
