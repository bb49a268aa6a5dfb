// Fills holes in photographs on Android, or any JVM: the whole engine is in one file.
//
//     rethined export pipeline -o pipeline.onnx
//
// Needs com.microsoft.onnxruntime:onnxruntime-android (or :onnxruntime). Not compiled in this project's tests, only
// parsed.

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder

class Inpainter(pipeline: ByteArray) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val session = environment.createSession(pipeline)

    /** [image] of height x width x 3 bytes, RGB, filled where [mask], height x width bytes, is 128 or more. */
    fun fill(image: ByteArray, mask: ByteArray, height: Int, width: Int): ByteArray {
        val h = height.toLong()
        val w = width.toLong()
        tensor(image, h, w, 3).use { photo ->
            tensor(mask, h, w).use { hole ->
                session.run(mapOf("image" to photo, "mask" to hole)).use { results ->
                    val filled = (results[0] as OnnxTensor).byteBuffer
                    return ByteArray(filled.remaining()).also { filled.get(it) }
                }
            }
        }
    }

    /** [photo], filled where [hole], of the same size, is not transparent. Takes its time: not on the main thread. */
    fun fill(photo: Bitmap, hole: Bitmap): Bitmap {
        val width = photo.width
        val height = photo.height
        val colors = IntArray(width * height)
        hole.getPixels(colors, 0, width, 0, 0, width, height)
        val mask = ByteArray(colors.size) { if (colors[it] ushr 24 != 0) -1 else 0 }
        photo.getPixels(colors, 0, width, 0, 0, width, height)
        val image = ByteArray(3 * colors.size) { (colors[it / 3] shr (16 - 8 * (it % 3))).toByte() }
        val filled = fill(image, mask, height, width)
        for (i in colors.indices) {
            val red = filled[3 * i].toInt() and 255
            val green = filled[3 * i + 1].toInt() and 255
            val blue = filled[3 * i + 2].toInt() and 255
            colors[i] = (colors[i] and (255 shl 24)) or (red shl 16) or (green shl 8) or blue
        }
        return Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888)
    }

    override fun close() = session.close()

    private fun tensor(bytes: ByteArray, vararg shape: Long): OnnxTensor {
        val buffer = ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes)
        buffer.rewind()
        return OnnxTensor.createTensor(environment, buffer, shape, OnnxJavaType.UINT8)
    }
}
