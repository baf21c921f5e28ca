package bench

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// wrkConnections are open at a time.
const wrkConnections = 32

// requests are HTTP requests on connections that stay.
func requests(ctx context.Context, b *bed, p *path, d time.Duration) ([]float64, error) {
	return wrk(ctx, b, p, d)
}

// connections are HTTP requests with a connection for each.
func connections(ctx context.Context, b *bed, p *path, d time.Duration) ([]float64, error) {
	return wrk(ctx, b, p, d, "--header", "Connection: close")
}

// wrk runs it from the client. One thread leaves a processor to the path.
func wrk(ctx context.Context, b *bed, p *path, d time.Duration, more ...string) ([]float64, error) {
	argv := append([]string{"wrk", "--threads", "1", "--connections", fmt.Sprint(wrkConnections), "--duration", seconds(d) + "s"}, more...)
	out, err := output(ctx, b.client, d+loadSlack, append(argv, fmt.Sprintf("http://%s/", p.http))...)
	if err != nil {
		return nil, err
	}
	rate, err := parseWrk(out)
	return []float64{rate}, err
}

// parseWrk reads the rate from wrk's report. Anything that went wrong on the way
// is an error: a path that drops some connections may be fast with the rest.
func parseWrk(text string) (float64, error) {
	if m := regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`).FindStringSubmatch(text); m != nil {
		return 0, fmt.Errorf("wrk: %s", m[0])
	}
	if m := regexp.MustCompile(`Non-2xx or 3xx responses: \d+`).FindString(text); m != "" {
		return 0, fmt.Errorf("wrk: %s", m)
	}
	m := regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`).FindStringSubmatch(text)
	if m == nil {
		return 0, errors.New("wrk: no rate in its report")
	}
	rate, err := strconv.ParseFloat(m[1], 64)
	if err == nil && rate <= 0 {
		err = errors.New("wrk: no request was answered")
	}
	return rate, err
}
