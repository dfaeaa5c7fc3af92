/**
 * libgrate picks, in-process, which metered upstream provider gets the next request, so that HTTP 429 is predicted and not
 * received. {@link io.github.libgrate.Engine} is where to start.
 *
 * @serial exclude
 */
package io.github.libgrate;
