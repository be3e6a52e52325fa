/* The loop of headwater_sends, which says what it takes and gives. The interpreter's lock is released once for all sends. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/socket.h>

/* Sends to each; notes in `outcomes` what each has taken, or -errno. Returns how many did not take all. */
static Py_ssize_t send_each(const int *descriptors, Py_ssize_t count, const Py_buffer *data, Py_ssize_t *outcomes)
{
    Py_ssize_t odd = 0;
    for (Py_ssize_t place = 0; place < count; place++) {
        Py_ssize_t sent = send(descriptors[place], data->buf, (size_t)data->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            sent = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
        outcomes[place] = sent;
        odd += sent != data->len;
    }
    return odd;
}

static PyObject *told(const Py_ssize_t *outcomes, Py_ssize_t count, Py_ssize_t all, Py_ssize_t odd)
{
    PyObject *list = PyList_New(odd);
    if (list == NULL)
        return NULL;
    Py_ssize_t at = 0;
    for (Py_ssize_t place = 0; at < odd && place < count; place++) {
        if (outcomes[place] == all)
            continue;
        PyObject *row = Py_BuildValue("(nn)", place, outcomes[place]);
        if (row == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, at++, row);
    }
    return list;
}

static PyObject *send_to_all(PyObject *module, PyObject *args)
{
    Py_buffer descriptors, data;
    if (!PyArg_ParseTuple(args, "y*y*:send_to_all", &descriptors, &data))
        return NULL;
    PyObject *result = NULL;
    Py_ssize_t count = descriptors.len / (Py_ssize_t)sizeof(int);
    Py_ssize_t *outcomes = PyMem_New(Py_ssize_t, count);
    if (descriptors.len % (Py_ssize_t)sizeof(int) != 0) {
        PyErr_Format(PyExc_ValueError, "descriptors: %zd bytes, expected C ints of %zu", descriptors.len, sizeof(int));
    } else if (outcomes == NULL) {
        PyErr_NoMemory();
    } else {
        Py_ssize_t odd;
        Py_BEGIN_ALLOW_THREADS
        odd = send_each(descriptors.buf, count, &data, outcomes);
        Py_END_ALLOW_THREADS
        result = told(outcomes, count, data.len, odd);
    }
    PyMem_Free(outcomes);
    PyBuffer_Release(&descriptors);
    PyBuffer_Release(&data);
    return result;
}

static PyMethodDef methods[] = {
    {"send_to_all", send_to_all, METH_VARARGS, "See headwater_sends."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModule_Create(&definition);
}
